"""The floor, which stands beside everything that is measured, answers whatever it is asked."""

import pytest

from bench.cost.floor import floor


@pytest.mark.timeout(60)
def test_the_floor_answers_more_questions_at_once_than_its_pipes_hold(tmp_path) -> None:
    texts = [f"{number:300}" for number in range(2000)]
    with floor(tmp_path) as below:
        assert below.ask(texts, together=True) == texts
