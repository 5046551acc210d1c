"""One fault of the self-test: what it strikes, how it is tried, and what became of the questions.

A run is a row of steps that waits by yielding, so that one loop can take those of several in turn.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from signal import Signals

import msgspec

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import QueryState
from autopoll.client.client import Client
from autopoll.clock import wall_ms
from autopoll.home.home import instance_name
from autopoll.message import read_answer
from autopoll.ops.selftest.scratch_home import Scratch
from autopoll.ops.status import status
from autopoll.process import heartbeat, signals
from autopoll.process.heartbeat import READY, Beat

ASK_EVERY_S = 0.5
PATIENCE_S = 60.0  # for each step; then the fault was not noticed, the question is lost
SUPERVISORD = "supervisord"


class FaultOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one fault, in milliseconds from it; None for never.

    `answered_ms` is the longest that a question waited, of those in flight when it struck and
    those asked until everything worked again. An answer that is an error counts as a question lost.
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


class FaultCase(msgspec.Struct, frozen=True):
    """One thing that can go wrong.

    `questions` are in hand when `signal` strikes the process; without a signal they are the fault.
    `seen` returns the moment from which the system knows (CLOCK_MONOTONIC); None when it does not.
    """

    name: str
    seen: "Callable[[FaultRun], float | None]"
    shard: str = "main"
    process: str = ""  # else the worker of the shard
    questions: tuple[str, ...] = ()
    signal: Signals | None = None
    mend: "Callable[[FaultRun], None] | None" = None  # what is left to the operator

    @property
    def target(self) -> str:
        """The process that is struck."""
        return self.process or instance_name(self.shard, 1)


class FaultRun:
    """One fault while it is tried."""

    def __init__(self, fault: FaultCase, scratch: Scratch, bridge: Bridge) -> None:
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

    def outcome(self) -> FaultOutcome:
        """Return what became of it."""
        waited = [
            (state.settled_at or 0) - max(self._asked[number][1], self._struck_ms)
            for number, state in self._settled.items()
        ]
        answers = self._count_answers()
        noticed = None if self._noticed is None else round(1000 * (self._noticed - self.struck))
        return FaultOutcome(
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
        """Return whether the first question is leased, or answered."""
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
        """Return whether the process beats, whichever incarnation it is."""
        if self.fault.process == SUPERVISORD:
            return status(self.scratch.home, self.scratch.config).ready
        beat = self.beat()
        return beat is not None and beat.state in READY and beat.loop_beat > self.struck

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
        known = [msgspec.json.decode(each.metadata or "{}", type=_AnswerMetadata) for each in found]
        return Counter(each.in_reply_to for each in known)


class _AnswerMetadata(msgspec.Struct, frozen=True):
    in_reply_to: int = 0
