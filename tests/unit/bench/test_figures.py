"""What a figure says of its target, and how rounds make one."""

import pytest

from bench.cost.figures import Figure, Spread, interleave, spread


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"value": 3.0}, None),
        ({"value": 3.0, "target": 3.0}, True),
        ({"value": 3.1, "target": 3.0}, False),
        ({"value": 9.0, "ratio": 1.4, "target": 1.5}, True),
        ({"value": 1.0, "ratio": 1.6, "target": 1.5}, False),
        ({"value": 1.0, "ratio": 0.6, "target": 0.5, "at_least": True}, True),
        ({"value": 1.0, "ratio": 0.4, "target": 0.5, "at_least": True}, False),
        ({"value": 1.0, "ratio": 1.0, "target": 1.5, "p99_ratio": 3.0, "p99_target": 2.0}, False),
        ({"value": 1.0, "ratio": 1.0, "target": 1.5, "p99_ratio": 1.9, "p99_target": 2.0}, True),
    ],
)
def test_a_target_bounds_the_ratio_where_there_is_one_else_the_value(fields, met) -> None:
    assert Figure(section="s", name="n", unit="us", **fields).met is met


def test_rounds_take_turns_and_a_figure_is_the_median_of_them() -> None:
    order: list[str] = []

    def lap(name: str, values: list[list[float]]):
        left = iter(values)

        def run() -> list[float]:
            order.append(name)
            return next(left)

        return run

    laps = {"one": lap("one", [[1.0], [9.0], [2.0]]), "two": lap("two", [[4.0, 6.0]] * 3)}
    said: list[str] = []
    seen = interleave(laps, 3, said.append)
    assert order == ["one", "two"] * 3
    assert seen == {"one": Spread(2.0, 2.0), "two": Spread(5.0, 6.0)}
    assert said[0] == "one, round 1 of 3"


def test_the_99th_percentile_of_a_hundred_is_the_last_but_one_at_most() -> None:
    assert spread(range(100, 0, -1)) == Spread(50.5, 100)
    assert spread([7.0]) == Spread(7.0, 7.0)
