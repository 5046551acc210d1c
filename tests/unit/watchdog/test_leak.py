"""What is a leak is a pure function of readings; no process is touched here."""

import random
from collections.abc import Callable

import pytest

from autopoll.process.orphans import Marked
from autopoll.watchdog.footprint import Footprint, Zombie
from autopoll.watchdog.leak import LeakThresholds, Trend, find_leak, lasting_zombies

MB = 1_000_000
HOUR = 3600.0


def footprint(
    at: float = 0.0, *, rss: int = 100 * MB, descendants: int = 0, fds: int = 10, zombies: str = ""
) -> Footprint:
    return Footprint(
        at=at,
        rss_bytes=rss,
        descendants=tuple(Marked(pid, 1, "child") for pid in range(descendants)),
        zombies=frozenset(Zombie(ord(each), 1, 1, "child") for each in zombies),
        fds=fds,
        fd_limit=1000,
        fd_holder=4711,
    )


def leak(*readings: Footprint, **allowed: int) -> str:
    return find_leak(readings, Trend(), Trend(), LeakThresholds(**allowed))


def test_what_is_within_its_limits_leaks_nothing() -> None:
    assert leak() == ""
    assert leak(*[footprint(rss=10**12, descendants=200, fds=800)] * 5) == ""
    assert leak(*[footprint(rss=500 * MB)] * 5, rss_bytes=500 * MB) == ""


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (footprint(fds=801), "801 of 1000 descriptors"),
        (footprint(rss=501 * MB), "501 MB in 1 processes, allowed are 500 MB"),
        (footprint(descendants=201), "201 processes"),
    ],
)
def test_two_readings_in_a_row_over_a_limit_are_a_leak_and_one_is_none(
    over: Footprint, words: str
) -> None:
    assert words in leak(over, over, rss_bytes=500 * MB)
    for readings in ([over], [over, footprint()], [footprint(), over], [over, footprint(), over]):
        assert leak(*readings, rss_bytes=500 * MB) == ""


def first_rise(figure: Callable[[float], float], hours: float, least: int = 256 * MB) -> float:
    """Return the hour in which a figure, read every 5 s, is first said to have risen; or never."""
    trend = Trend()
    for step in range(int(hours * HOUR / 5)):
        at = 1000.0 + step * 5
        trend.add(at, int(figure(step * 5 / HOUR)))
        if trend.rise(least):
            return step * 5 / HOUR
    return float("inf")


def noisy(hour: float, size: float) -> float:
    return random.Random(hour).uniform(0, size)


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(lambda _: 4000 * MB, id="large from the start"),
        pytest.param(lambda h: min(3000, 100 + 30_000 * h) * MB, id="a warm-up of six minutes"),
        pytest.param(lambda h: (100 + 4000 * (1 - 0.01**h)) * MB if h < 0.05 else 4000 * MB,
                     id="one that slows down"),
        pytest.param(lambda h: (9000 if 1 < h < 1.4 else 100) * MB, id="a large question"),
        pytest.param(lambda h: 100 * MB + noisy(h, 900 * MB), id="noise"),
        pytest.param(lambda h: (100 + 900 * (h * 10 % 1)) * MB, id="a cache that is emptied"),
        pytest.param(lambda h: (300 + 2 * h) * MB, id="less growth than matters"),
        pytest.param(lambda h: (4000 + 50 * h) * MB, id="little for its size"),
        pytest.param(lambda h: min(2000, 1000 + h * 100) * MB, id="growth that comes to an end"),
    ],
)  # fmt: skip
def test_what_grows_and_is_no_leak(figure: Callable[[float], float]) -> None:
    assert first_rise(figure, 24.0) == float("inf")


@pytest.mark.parametrize(
    ("figure", "noticed"),
    [
        pytest.param(lambda h: (100 + 10_000 * h) * MB, 0.25, id="10 GB an hour"),
        pytest.param(lambda h: (100 + 1000 * h) * MB, 0.8, id="1 GB an hour"),
        pytest.param(lambda h: (100 + 50 * h) * MB, 14.0, id="50 MB an hour"),
        pytest.param(
            lambda h: (100 + 1000 * h) * MB + noisy(h, 500 * MB), 2.0, id="1 GB an hour, in noise"
        ),
    ],
)
def test_a_leak_is_noticed_the_sooner_the_faster_it_is(
    figure: Callable[[float], float], noticed: float
) -> None:
    assert first_rise(figure, 24.0) <= noticed


def test_children_that_become_ever_more_are_a_leak() -> None:
    readings, memory, descendants = [footprint(descendants=100)] * 2, Trend(), Trend()
    assert find_leak(readings, memory, descendants, LeakThresholds()) == ""
    for step in range(200):
        descendants.add(step * 5, step)
    assert "children" not in find_leak(readings, Trend(), Trend(), LeakThresholds())
    assert "100 processes" in find_leak(readings, memory, descendants, LeakThresholds())


def test_a_zombie_lasts_when_the_very_same_is_there_in_all_readings_of_the_time() -> None:
    def lasting(*seen: str) -> set[str]:
        readings = [footprint(5.0 * step, zombies=zombies) for step, zombies in enumerate(seen)]
        return {chr(zombie.pid) for zombie in lasting_zombies(readings, 10.0)}

    assert lasting() == set()
    assert lasting("a", "a") == set()
    assert lasting("a", "a", "a") == {"a"}
    assert lasting("ab", "abc", "bc") == {"b"}
    assert lasting("a", "", "a") == set()
    assert lasting("a", "a", "a", "") == set()
    assert lasting("", "a", "a", "a") == {"a"}
