"""The verdict is a pure function of samples; no process is needed to see what it does."""

import pytest

from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.proc_stat import ProcStat
from autopoll.process.verdict import Sample, Thresholds, Verdict, judge

NOW = 1000.0


def beat(
    state: ProcessState = ProcessState.IDLE,
    *,
    loop: float = 0.0,
    thread: float = 0.0,
    due: float | None = None,
    still: float = 0.0,
) -> Beat:
    """A beat as read NOW; ages in seconds, `due` the seconds until its deadline."""
    return Beat(
        name="worker",
        role="worker",
        pid=4711,
        started=1,
        boot_id="boot",
        state=state,
        loop_beat=NOW - loop,
        thread_beat=NOW - thread,
        request_id=None if due is None else 7,
        request_start=None if due is None else NOW - 100,
        request_deadline=None if due is None else NOW + due,
        progressed_at=NOW - still,
    )


def read_stat(state: str = "S", cpu: float = 1.0) -> ProcStat:
    return ProcStat(
        pid=4711,
        name="python",
        state=state,
        parent=1,
        group=4711,
        threads=3,
        cpu_s=cpu,
        started=1,
        rss_bytes=1,
    )


def series(seen: Beat, states: str = "SSS", cpu_per_s: float = 0.0) -> list[Sample]:
    """Samples of one unchanging beat, a second apart, the last one NOW."""
    last = len(states) - 1
    return [
        Sample(NOW - last + index, seen, read_stat(state, 1.0 + cpu_per_s * index))
        for index, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        pytest.param(series(beat()), Verdict.HEALTHY, id="idle and beating"),
        pytest.param(series(beat(ProcessState.HELD)), Verdict.HEALTHY, id="held and beating"),
        pytest.param(series(beat(loop=7)), Verdict.HUNG_IDLE, id="idle loop stands still"),
        pytest.param(
            series(beat(ProcessState.HELD, loop=7)), Verdict.HUNG_IDLE, id="held loop too"
        ),
        pytest.param(series(beat(loop=7), "S"), Verdict.HEALTHY, id="one sample is none"),
        pytest.param(series(beat(loop=5.5)), Verdict.HEALTHY, id="only the last sample is bad"),
        pytest.param(series(beat(loop=7, thread=7)), Verdict.FROZEN, id="no thread runs"),
        pytest.param(
            series(beat(loop=7, thread=7), cpu_per_s=0.02),
            Verdict.FROZEN,
            id="and waits for a lock",
        ),
        pytest.param(
            series(beat(loop=7, thread=7), cpu_per_s=0.5), Verdict.HUNG_IDLE, id="but CPU is used"
        ),
        pytest.param(
            series(beat(ProcessState.STARTING, loop=50)), Verdict.HEALTHY, id="slow start"
        ),
        pytest.param(
            series(beat(ProcessState.STARTING, loop=80)), Verdict.HUNG_START, id="endless start"
        ),
        pytest.param(
            series(beat(ProcessState.DRAINING, loop=20)), Verdict.HEALTHY, id="slow drain"
        ),
        pytest.param(
            series(beat(ProcessState.DRAINING, loop=50)), Verdict.HUNG_IDLE, id="endless drain"
        ),
        pytest.param(
            series(beat(ProcessState.STOPPED, loop=9, thread=9)), Verdict.FROZEN, id="lingers"
        ),
        pytest.param(series(beat(ProcessState.BUSY, due=30)), Verdict.BUSY, id="busy"),
        pytest.param(
            series(beat(ProcessState.BUSY, due=30, loop=900)),
            Verdict.BUSY,
            id="busy with a still loop",
        ),
        pytest.param(
            series(beat(ProcessState.BUSY, due=30, loop=900, thread=900)),
            Verdict.BUSY,
            id="busy without any thread running",
        ),
        pytest.param(series(beat(ProcessState.BUSY, due=-1)), Verdict.BUSY, id="being cancelled"),
        pytest.param(series(beat(ProcessState.BUSY, due=-4)), Verdict.HUNG_REQUEST, id="overdue"),
        pytest.param(
            series(beat(ProcessState.DRAINING, due=-4)),
            Verdict.HUNG_REQUEST,
            id="overdue while draining",
        ),
        pytest.param(
            series(beat(ProcessState.BUSY, due=-2.5)), Verdict.HEALTHY, id="overdue just now"
        ),
        pytest.param(series(beat(), "STT"), Verdict.HEALTHY, id="stopped for a second"),
        pytest.param(series(beat(), "STTT"), Verdict.STOPPED, id="stopped for two seconds"),
        pytest.param(series(beat(due=30), "TTTT"), Verdict.STOPPED, id="stopped while busy"),
        pytest.param(series(beat(due=-30), "TTTT"), Verdict.STOPPED, id="stopped and overdue"),
        pytest.param(series(beat(), "TTST"), Verdict.HEALTHY, id="stopped on and off"),
        pytest.param(
            series(beat(loop=9), "D" * 9), Verdict.HEALTHY, id="short uninterruptible sleep"
        ),
        pytest.param(series(beat(loop=20), "D" * 13), Verdict.UNINTERRUPTIBLE, id="a long one"),
        pytest.param(
            series(beat(loop=20, due=30), "D" * 13),
            Verdict.UNINTERRUPTIBLE,
            id="a long one at work",
        ),
        pytest.param(
            series(beat(loop=20, due=30), "D" * 9), Verdict.BUSY, id="a short one at work"
        ),
        pytest.param(
            series(beat(loop=20, due=-30), "D" * 9), Verdict.BUSY, id="overdue in a short one"
        ),
        pytest.param(series(beat(loop=1), "D" * 13), Verdict.HEALTHY, id="but its loop beats"),
        pytest.param(
            series(beat(loop=20), "D" * 13, cpu_per_s=0.1),
            Verdict.HEALTHY,
            id="much reading and work",
        ),
        pytest.param(
            series(beat(loop=20, due=30), "D" * 8 + "S" + "D" * 8), Verdict.BUSY, id="on and off"
        ),
        pytest.param(series(beat(loop=9), "ZZZ"), Verdict.HUNG_IDLE, id="leader ended, loop too"),
        pytest.param(series(beat(), "ZZZ"), Verdict.HEALTHY, id="leader ended, loop elsewhere"),
        pytest.param(series(beat(), "tttt"), Verdict.HEALTHY, id="traced by an operator"),
    ],
)
def test_the_verdict_on(samples: list[Sample], verdict: Verdict) -> None:
    assert judge(samples) is verdict


@pytest.mark.parametrize(
    ("seen", "limit", "verdict"),
    [
        (beat(ProcessState.BUSY, due=60, still=90), None, Verdict.BUSY),
        (beat(ProcessState.BUSY, due=60, still=29), 30.0, Verdict.BUSY),
        (
            beat(ProcessState.BUSY, due=60, still=31),
            30.0,
            Verdict.BUSY,
        ),  # the grace of a hung request
        (beat(ProcessState.BUSY, due=60, still=34), 30.0, Verdict.NO_PROGRESS),
        (beat(ProcessState.BUSY, due=-60, still=90), 30.0, Verdict.HUNG_REQUEST),
        (beat(ProcessState.IDLE, still=900), 30.0, Verdict.HEALTHY),
    ],
)
def test_progress_is_asked_for_only_where_the_shard_says_so(
    seen: Beat, limit: float | None, verdict: Verdict
) -> None:
    assert judge(series(seen), thresholds=Thresholds(progress=limit)) is verdict


@pytest.mark.parametrize(
    "seen",
    [
        beat(loop=900),
        beat(loop=900, thread=900),
        beat(ProcessState.BUSY, due=-900),
        beat(ProcessState.STARTING, loop=900),
    ],
)
def test_after_a_suspend_nothing_is_to_blame_for_looking_old(seen: Beat) -> None:
    assert judge(series(seen)).is_bad
    assert not judge(series(seen), awake_since=NOW - 2).is_bad


def test_only_what_is_neither_healthy_nor_busy_calls_for_something_to_be_done() -> None:
    assert {each for each in Verdict if not each.is_bad} == {Verdict.HEALTHY, Verdict.BUSY}
