"""The self-test of an installation: faults in a home of its own, and what became of the questions.

Faults of one wave strike processes that have nothing to do with each other, and so go on side by
side; poller, watchdog and supervisord are everybody's, and their faults have a wave each. A fault
is a row of steps that waits by yielding; one loop takes those of a wave in turn.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from signal import Signals

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import QueryState
from autopoll.client.client import Client
from autopoll.clock import wall_ms
from autopoll.home.home import instance_name
from autopoll.message import read_answer
from autopoll.ops.selftest import faulty_backend
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.ops.status import status
from autopoll.process import heartbeat, incident_log, signals
from autopoll.process.heartbeat import Beat, ProcessState

FLOOD = 500
ASK_EVERY_S = 0.5
STEP_S = 0.01
SUPERVISORD = "supervisord"
OVER = object()
PATIENCE_S = 60.0  # for each step; then the fault was not noticed, the question is lost
AT_WORK = (ProcessState.IDLE, ProcessState.BUSY)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one fault, in milliseconds from it; None for never.

    `answered_ms` is the longest that a question waited, of those in flight when it struck and
    those asked until everything worked again. An answer that tells an error is a question lost.
    """

    fault: str
    noticed_ms: int | None
    answered_ms: int | None
    lost: int
    twice: int

    @property
    def is_good(self) -> bool:
        """Whether all is as promised."""
        return self.noticed_ms is not None and not self.lost and not self.twice


class Fault(msgspec.Struct, frozen=True):
    """One thing that can go wrong.

    `questions` are in hand when `signal` strikes the process; without a signal they are the fault.
    `seen` returns the moment from which the system knows (CLOCK_MONOTONIC); None when it does not.
    """

    name: str
    seen: "Callable[[Trial], float | None]"
    shard: str = "main"
    process: str = ""  # else the worker of the shard
    questions: tuple[str, ...] = ()
    signal: Signals | None = None
    mend: "Callable[[Trial], None] | None" = None  # what is left to the operator

    @property
    def target(self) -> str:
        """The process that is struck."""
        return self.process or instance_name(self.shard, 1)


class Trial:
    """One fault on its way."""

    def __init__(self, fault: Fault, scratch: Scratch, bridge: Bridge) -> None:
        self.fault = fault
        self.scratch = scratch
        self.struck = 0.0
        self._struck_ms = 0
        self._noticed: float | None = None
        self._bridge = bridge
        self._client = Client(scratch.home, scratch.config, bridge)
        self._asked: dict[int, tuple[str, int]] = {}  # id -> question, wall-clock milliseconds
        self._settled: dict[int, QueryState] = {}
        self._next_question = 0.0

    def run(self) -> Iterator[None]:
        """Strike, wait until it was noticed and mended, and until all is well again."""
        fault = self.fault
        before = self.beat()
        if fault.signal:
            self._ask(*fault.questions)
            yield from self._until(lambda: not fault.questions or self._is_in_hand())
        self.struck, self._struck_ms = time.monotonic(), wall_ms()
        self._strike(before)
        self._ask("and now?")
        yield from self._until(self._is_noticed, asking=True)
        if fault.mend:
            fault.mend(self)
        yield from self._until(self._works_again, asking=True)
        yield from self._until(self._all_settled)

    def outcome(self) -> Outcome:
        """Return what became of it."""
        waited = [
            (state.settled_at or 0) - max(self._asked[number][1], self._struck_ms)
            for number, state in self._settled.items()
        ]
        answers = self._count_answers()
        noticed = None if self._noticed is None else round(1000 * (self._noticed - self.struck))
        return Outcome(
            fault=self.fault.name,
            noticed_ms=noticed,
            answered_ms=max(waited, default=None),
            lost=sum(not self._is_answered(number) for number in self._asked),
            twice=sum(answers[number] > 1 for number in self._asked),
        )

    def beat(self) -> Beat | None:
        """Return the sign of life of the process that is struck, while it lives."""
        beat = heartbeat.read(self.scratch.home.beats / self.fault.target)
        return beat if beat and heartbeat.is_alive(beat) else None

    def is_taken(self) -> bool:
        """Tell whether the first question is in hand, or answered."""
        state = self._bridge.messages.query_state(min(self._asked)).state
        return state not in ("sent", "queued", "ready")

    def _strike(self, target: Beat | None) -> None:
        number = self.fault.signal
        if number is None:
            self._ask(*self.fault.questions)
        elif self.fault.process == SUPERVISORD:
            self.scratch.signal(number)
        elif target:
            signals.send(target.pid, target.started, number)

    # --- the steps, and what they wait for

    def _until(self, condition: Callable[[], bool], *, asking: bool = False) -> Iterator[None]:
        """Wait for the condition, though not for ever, and ask on meanwhile if wanted."""
        end = time.monotonic() + PATIENCE_S
        while not condition() and (now := time.monotonic()) < end:
            if asking and now >= self._next_question:
                self._next_question = now + ASK_EVERY_S
                self._ask(f"and at {wall_ms()}?")
            yield

    def _is_in_hand(self) -> bool:
        worker = heartbeat.read(self.scratch.home.beats / instance_name(self.fault.shard, 1))
        return worker is not None and worker.request_id is not None

    def _is_noticed(self) -> bool:
        self._noticed = self.fault.seen(self)
        return self._noticed is not None

    def _works_again(self) -> bool:
        """Tell whether the process beats, whichever incarnation it is."""
        if self.fault.process == SUPERVISORD:
            return status(self.scratch.home, self.scratch.config).ready
        beat = self.beat()
        return beat is not None and beat.state in AT_WORK and beat.loop_beat > self.struck

    def _all_settled(self) -> bool:
        for number in self._asked.keys() - self._settled.keys():
            state = self._bridge.messages.query_state(number)
            if state.answer is not None:
                self._settled[number] = state
        return self._settled.keys() == self._asked.keys()

    # --- the questions

    def _ask(self, *questions: str) -> None:
        asked = wall_ms()
        for number, question in zip(
            self._client.ask(questions, self.fault.shard).ids, questions, strict=True
        ):
            self._asked[number] = (question, asked)

    def _is_answered(self, number: int) -> bool:
        state = self._settled.get(number)
        if state is None or state.answer is None:
            return False
        answer = read_answer(state.answer.text, state.answer.metadata)
        return not answer.error and answer.text == self._asked[number][0]

    def _count_answers(self) -> Counter[int]:
        found = self._bridge.messages.find(kind="response", limit=1_000_000)
        return Counter(
            msgspec.json.decode(each.metadata or "{}", type=_Reply).in_reply_to for each in found
        )


class _Reply(msgspec.Struct, frozen=True):
    in_reply_to: int = 0


# --- how it shows that the system has noticed


def verdict(name: str) -> Callable[[Trial], float | None]:
    """Seen when an incident of the process that was struck has this verdict."""

    def seen(trial: Trial) -> float | None:
        return next(
            (
                each.clock
                for each in incident_log.read(trial.scratch.home.incidents)
                if (each.process, each.verdict) == (trial.fault.target, name)
                and each.clock >= trial.struck
            ),
            None,
        )

    return seen


def swept(trial: Trial) -> float | None:
    """Seen when the death is an incident and no child is left of those that outlived it."""
    if verdict("dead")(trial) is None or trial.scratch.processes(**{faulty_backend.MARK: "brood"}):
        return None
    return time.monotonic()


def down(trial: Trial) -> float | None:
    """Seen when `status` says that supervisord is gone."""
    now = status(trial.scratch.home, trial.scratch.config)
    return time.monotonic() if now.supervisord == "down" else None


def taken(trial: Trial) -> float | None:
    """Seen when the first of the questions is in hand or answered."""
    return time.monotonic() if trial.is_taken() else None


def start(trial: Trial) -> None:
    """Bring the home up again."""
    trial.scratch.up(lambda _: None)


SUPERVISORD = "supervisord"
STOP, KILL = signal.SIGSTOP, signal.SIGKILL
NAP = ("nap",)
WAVES: tuple[tuple[Fault, ...], ...] = (
    (
        Fault("worker stopped, busy", verdict("stopped"), "held", questions=NAP, signal=STOP),
        Fault("worker stopped, idle", verdict("stopped"), "idle", signal=STOP),
        Fault("backend deadlocked", verdict("hung-request"), "stuck", questions=("deadlock",)),
        Fault("children outlive the worker", swept, "bereft", questions=("brood",)),
        Fault("zombie child", verdict("zombie-children"), "zombie", questions=("zombie",)),
        Fault("descriptors leak", verdict("leak"), "leaking", questions=("leak",)),
    ),
    (Fault("poller stopped, busy", verdict("stopped"), "held", "poller", NAP, STOP),),
    (Fault("poller stopped, idle", verdict("stopped"), process="poller", signal=STOP),),
    (Fault("watchdog killed", verdict("dead"), process="watchdog", signal=KILL),),
    (Fault("watchdog stopped", verdict("stopped"), process="watchdog", signal=STOP),),
    (Fault("supervisord stopped", verdict("stopped"), process=SUPERVISORD, signal=STOP),),
    (Fault("supervisord killed", down, process=SUPERVISORD, signal=KILL, mend=start),),
    (Fault(f"{FLOOD} questions at once", taken, questions=("why?",) * FLOOD),),
)
CONFIG = """
[access]
rate_per_second = 100000.0
rate_burst = 100000
[shards.main]
backend = "echo"
options.concurrency = 4
[shards.stuck]
backend = "faulty"
request_timeout = "1s"
""" + "".join(
    f'[shards.{name}]\nbackend = "faulty"\n'
    for name in ("held", "idle", "bereft", "zombie", "leaking")
)


def run(report: Callable[[str], None], show: Callable[[Outcome], None]) -> list[Outcome]:
    """Go through all faults, `show` what became of each, and leave nothing behind."""
    outcomes = []
    report("starting a home of its own")
    with scratch_home(CONFIG, {"faulty": "autopoll.ops.selftest.faulty_backend:Faulty"}) as scratch:
        scratch.up(report)
        with closing(connect(scratch.home, scratch.config)) as bridge:
            for wave in WAVES:
                for outcome in _strike(wave, scratch, bridge, report):
                    show(outcome)
                    outcomes.append(outcome)
    return outcomes


def _strike(
    wave: tuple[Fault, ...], scratch: Scratch, bridge: Bridge, report: Callable[[str], None]
) -> Iterator[Outcome]:
    trials = {trial: trial.run() for trial in (Trial(fault, scratch, bridge) for fault in wave)}
    while trials:
        report(", ".join(trial.fault.name for trial in trials))
        for trial, steps in list(trials.items()):
            if next(steps, OVER) is OVER:
                del trials[trial]
                yield trial.outcome()
        time.sleep(STEP_S)
