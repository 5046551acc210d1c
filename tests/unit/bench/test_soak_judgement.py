"""The soak's own judgement: what is flat, what grows, and what the pictures hold."""

import random
import xml.etree.ElementTree as xml

import pytest

from bench.soak import flatness, promise, sample


def line(growth: float, start: int = 0, level: float = 100.0, count: int = 50) -> list:
    """Return points 10,000 questions apart that grow by this share of 100 in each 100,000."""
    return [
        (start + 10_000 * number, level + 100 * growth * number / 10) for number in range(count)
    ]


@pytest.mark.parametrize(
    ("growth", "word"),
    [(0.0, "flat"), (0.0099, "flat"), (0.0101, "grows"), (0.5, "grows"), (-0.5, "flat")],
)
def test_flat_is_below_one_percent_in_100_000_questions(growth, word) -> None:
    level = 100 - sum(y for _, y in flatness.warmed_up(line(growth, level=0))) / 45  # a mean of 100
    verdict = flatness.judge("x", [line(growth, level=level)])
    assert verdict.slope == pytest.approx(growth, abs=1e-4)
    assert verdict.word == word
    assert verdict.is_good == (word == "flat")


def test_each_incarnation_has_its_own_level_and_its_own_warm_up() -> None:
    first, second = line(0.0, level=90), line(0.0, start=500_000, level=120)
    assert flatness.judge("x", [first, second]).slope == pytest.approx(0)
    assert flatness.judge("x", [first + second]).word == "grows"
    first[:4] = [(x, 10.0) for x, _ in first[:4]]
    second[:4] = [(x, 10.0) for x, _ in second[:4]]
    assert flatness.judge("x", [first, second]).slope == pytest.approx(0)


def test_a_leak_shows_through_restarts_that_give_it_back() -> None:
    runs = [line(0.05, start=start) for start in (0, 500_000)]
    verdict = flatness.judge("x", runs)
    assert verdict.word == "grows"
    assert verdict.slope == pytest.approx(0.05, rel=0.2)


def test_noise_is_told_from_growth() -> None:
    chance = random.Random(4)
    noisy = [(x, chance.uniform(50, 150)) for x, _ in line(0.0)]
    verdict = flatness.judge("x", [noisy])
    assert verdict.word in ("flat", "in the noise")
    grown = [(x, y + x / 5000) for x, y in noisy]
    assert flatness.judge("x", [grown]).word == "grows"


def test_a_slice_shorter_than_100_000_questions_may_grow_by_three_percent_in_all() -> None:
    def grown(percent: float) -> list:
        return [(200 * n, 100 + percent * n / 90) for n in range(-10, 91)]

    assert flatness.judge("x", [grown(2.9)]).word == "flat"
    assert flatness.judge("x", [grown(3.3)]).word == "grows"


@pytest.mark.parametrize("runs", [[], [[]], [[(0, 1.0)]], [[(0, 1.0), (1, 1.0)]]])
def test_too_little_is_no_verdict(runs) -> None:
    verdict = flatness.judge("x", [run for run in runs if run])
    assert verdict.word == "too short"
    assert not verdict.is_good


def test_nothing_at_all_is_flat() -> None:
    assert flatness.judge("x", [[(x, 0.0) for x, _ in line(0.0)]]).word == "flat"


def soaked(leaking: bool = False) -> list:
    """Return a hundred windows with a restart of the worker towards the end."""
    return [
        sample.Sample(
            asked=10_000 * n,
            seconds=15.0 * n,
            p50_ms=1.0,
            p99_ms=4000.0 if 85 <= n < 95 else 2.0,
            log=4_000_000,
            database=20_000_000 * n,
            restarting=85 <= n < 95,
            held={
                "poller": sample.Held(10, 30_000_000, 12 + (n // 10 if leaking else 0)),
                "worker": sample.Held(11 if n < 85 else 12, 20_000_000, 9),
                "supervisord": sample.Held(9, 20_000_000, 30 if 85 <= n < 95 else 18),
            },
        )
        for n in range(1, 101)
    ]


def test_everything_is_judged_but_the_database_and_restarts_are_no_trend() -> None:
    verdicts = {each.name: each.word for each in flatness.judge_all(soaked())}
    assert set(verdicts.values()) == {"flat"}
    names = {f"{name}, {what}" for name in ("poller", "worker", "supervisord")
             for what in ("memory", "descriptors")}  # fmt: skip
    assert set(verdicts) == names | {"write-ahead log", "p99"}


def test_a_descriptor_in_100_000_questions_is_found() -> None:
    verdicts = flatness.judge_all(soaked(leaking=True))
    assert [each.name for each in verdicts if not each.is_good] == ["poller, descriptors"]
    [told] = [text for text in flatness.table(verdicts).splitlines() if text.endswith("grows")]
    assert told.startswith("poller, descriptors")


@pytest.mark.long  # matplotlib takes seconds to draw
def test_the_picture_shows_every_process() -> None:
    from bench.soak.chart import chart

    drawn = chart(soaked())
    assert xml.fromstring(drawn).tag.endswith("svg")
    for word in (b"poller", b"worker", b"supervisord", b"p99", b"1,000,000 questions"):
        assert word in drawn


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ((1, 1030, 9), True),
        ((1, 1031, 9), False),
        ((1, 500, 9), True),
        ((1, 1000, 10), False),
        ((1, 1000, 8), False),
        ((2, 1000, 9), False),
    ],
)
def test_the_promise_is_three_percent_the_same_descriptors_and_process(after, kept) -> None:
    then = {"worker": sample.Held(1, 1000, 9)}
    good, text = promise.compare(then, {"worker": sample.Held(*after)})
    assert good == kept
    assert ("TOO MUCH" in text) == (not kept)


def test_a_process_that_is_gone_breaks_the_promise() -> None:
    assert not promise.compare({"worker": sample.Held(1, 1000, 9)}, {})[0]
