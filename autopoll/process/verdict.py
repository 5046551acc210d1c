"""Judging a process by what it says and what the kernel says; pure, no process is touched.

psutil cannot tell hung from busy: a deadlock, a lost reply and a slow model are all asleep without
CPU, and a busy loop looks like an endless one. So a process declares the deadline of its work, and
within it is *never* killed, whatever else it looks like. The rules, the first that fits:

    stopped          job control has held it for over 2 s
    uninterruptible  in state D for over 10 s without CPU or a beat; before that it is left alone
    hung-request     the earliest deadline has passed by over 2 s (the poller cancels at it)
    no-progress      no step of the work for over the shard's own limit, if it has one, and 2 s
    busy             a request is in flight within its deadline: leave it alone
    hung-start       starting for over 75 s (a worker gives its backend 60 s, then fails by itself)
    frozen           no sign of any thread for over 5 s, and next to no CPU used
    hung-idle        no sign of its main loop for over 5 s; 40 s when draining, for it waits there
    healthy          anything else

A verdict counts when two samples in a row lead to it (`stopped` spans three as it is). Ages are
counted from the judge's own waking at the earliest: after a suspend everything looks old, and
nobody is to blame.

The state is that of the thread-group leader. One that has ended while other threads live reads as a
zombie, and is judged like any other: its beats count.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

import msgspec

from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.proc_stat import ProcStat

GAP_S = 3.0  # a judge that has not looked for longer was stopped itself: all ages begin now


class Verdict(StrEnum):
    """What a process is found to be."""

    HEALTHY = "healthy"
    BUSY = "busy"
    STOPPED = "stopped"
    UNINTERRUPTIBLE = "uninterruptible"
    FROZEN = "frozen"
    HUNG_START = "hung-start"
    HUNG_REQUEST = "hung-request"
    HUNG_IDLE = "hung-idle"
    NO_PROGRESS = "no-progress"
    # Not from samples: from a pidfd, from its footprint, from its own word, from RPC.
    DEAD = "dead"
    LEAK = "leak"
    ZOMBIE_CHILDREN = "zombie-children"
    RECYCLED = "recycled"
    SUPERVISOR_HUNG = "supervisor-hung"

    @property
    def is_bad(self) -> bool:
        """Whether something has to be done."""
        return self not in (Verdict.HEALTHY, Verdict.BUSY)


class Sample(msgspec.Struct, frozen=True):
    """What was seen of one process at one moment (CLOCK_MONOTONIC seconds)."""

    at: float
    beat: Beat
    stat: ProcStat


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """How long is too long, in seconds."""

    stopped: float = 2.0
    silent: float = 5.0
    overdue: float = 2.0
    starting: float = 75.0
    draining: float = 40.0
    blocked: float = 10.0
    progress: float | None = None
    # A share of a core: threads that wait for the interpreter lock look for it 200 times a second.
    asleep: float = 0.05


DEFAULT_THRESHOLDS = Thresholds()


def judge(
    history: Iterable[Sample], awake_since: float = 0.0, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Verdict:
    """Return the verdict on one incarnation from samples of it, oldest first, about one a second.

    `awake_since` is when the judge itself began to look without a gap.
    """
    samples = tuple(history)
    if len(samples) < 2:
        return Verdict.HEALTHY
    now = _look(samples, awake_since, thresholds)
    if now is Verdict.STOPPED or not now.is_bad:
        return now
    before = _look(samples[:-1], awake_since, thresholds)
    return now if now is before else Verdict.HEALTHY


def _look(samples: Sequence[Sample], awake_since: float, thresholds: Thresholds) -> Verdict:
    """Return what the last sample alone leads to, given those before it."""
    now = samples[-1]
    beat = now.beat

    def age(moment: float) -> float:
        return now.at - max(moment, awake_since)

    if now.stat.stopped:
        held = _latest(samples, lambda stat: stat.stopped)
        lasted = now.at - held[0].at >= thresholds.stopped
        return Verdict.STOPPED if lasted else Verdict.HEALTHY
    if now.stat.blocked:
        held = _latest(samples, lambda stat: stat.blocked)
        silent = min(now.at - held[0].at, age(beat.loop_beat)) > thresholds.blocked
        if silent and _cpu_share(held) <= thresholds.asleep:
            return Verdict.UNINTERRUPTIBLE
        return Verdict.HEALTHY if beat.request_deadline is None else Verdict.BUSY
    if beat.request_deadline is not None:
        if age(beat.request_deadline) > thresholds.overdue:
            return Verdict.HUNG_REQUEST
        allowed = thresholds.progress
        if allowed and age(beat.progressed_at) > allowed + thresholds.overdue:
            return Verdict.NO_PROGRESS
        return Verdict.BUSY
    if beat.state is ProcessState.STARTING:
        return Verdict.HUNG_START if age(beat.loop_beat) > thresholds.starting else Verdict.HEALTHY
    if age(beat.thread_beat) > thresholds.silent:
        silence = [sample for sample in samples if sample.at > beat.thread_beat]
        if _cpu_share(silence) <= thresholds.asleep:
            return Verdict.FROZEN
    draining = beat.state is ProcessState.DRAINING
    if age(beat.loop_beat) > (thresholds.draining if draining else thresholds.silent):
        return Verdict.HUNG_IDLE
    return Verdict.HEALTHY


def _latest(samples: Sequence[Sample], holds: Callable[[ProcStat], bool]) -> Sequence[Sample]:
    """Return the samples at the end, without a gap, of which something holds."""
    first = len(samples)
    while first and holds(samples[first - 1].stat):
        first -= 1
    return samples[first:]


def _cpu_share(samples: Sequence[Sample]) -> float:
    """Return the share of a core used from the first to the last sample."""
    first, last = samples[0], samples[-1]
    passed = last.at - first.at
    return (last.stat.cpu_s - first.stat.cpu_s) / passed if passed else 0.0
