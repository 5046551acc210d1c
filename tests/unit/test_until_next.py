"""The moments at which all processes do what they do once in a while."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopoll.clock import until_next


@pytest.mark.parametrize(
    ("now", "wait"), [(100.0, 1.0), (100.25, 0.75), (100.75, 1.25), (99.999, 1.001)]
)
def test_it_is_the_next_second_unless_that_is_less_than_half_of_one_off(now, wait) -> None:
    assert until_next(1.0, now) == pytest.approx(wait)


@given(
    seconds=st.sampled_from([0.05, 1.0, 2.0, 5.0, 30.0]), now=st.floats(min_value=0, max_value=1e7)
)
def test_it_is_a_multiple_and_neither_much_too_early_nor_too_late(
    seconds: float, now: float
) -> None:
    wait = until_next(seconds, now)
    assert 0.499 * seconds <= wait <= 1.501 * seconds
    turns = (now + wait) / seconds
    assert turns == pytest.approx(round(turns), abs=1e-6)
