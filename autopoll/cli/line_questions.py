"""Questions a line, for a program at the other end: asked as they come, answered in their order."""

import os
import select
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from autopoll.bridge.records import SentMessage, Stored
from autopoll.cli.awaiting import print_ids
from autopoll.cli.base_command import CommandLine
from autopoll.cli.interrupt import undisturbed
from autopoll.cli.question_input import bounded, decoded, stdin_readable
from autopoll.cli.render import print_json
from autopoll.client.client import Client
from autopoll.client.new_arrivals import require_question
from autopoll.client.outcome_wait import down, timed_out
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import AutopollError, Exit, RateLimited, TimedOut, UsageError
from autopoll.message import write_query

if TYPE_CHECKING:
    from autopoll.client.result import Result
    from autopoll.home.home import Home

MOST_OUTSTANDING = 1000  # asked and not printed; what comes beyond that waits here or in the pipe
BATCH = 200  # asked at once, and room for so many is made before more lines are taken
_CHUNK = 64 * 1024
_IDLE_S = 3600.0
_SOME_ID = f"q-{'0' * 16}"  # as long as the id of any question


class Lines:
    """The lines of a descriptor, as far as they have come; empty ones are left out.

    They end with the first that is no question, of which `refusal` says why.
    """

    def __init__(self, descriptor: int, limit: int, context_file: str | None) -> None:
        self.descriptor: int | None = descriptor  # None when nothing more is read of it
        self.refusal: UsageError | None = None
        self._limit = limit
        self._context_file = context_file
        self._begun = b""  # a line whose end has not come
        self._whole: deque[str] = deque()

    @property
    def ended(self) -> bool:
        """Tell whether all lines were taken."""
        return self.descriptor is None and not self._whole

    def take(self, most: int) -> list[str]:
        """Return at most so many of those that have come, without waiting."""
        if not self._whole and self.descriptor is not None:
            self._read(self.descriptor)
        return [self._whole.popleft() for _ in range(min(most, len(self._whole)))]

    def stop(self) -> None:
        """Leave out all that was not taken."""
        self.descriptor = None
        self._whole.clear()

    def _read(self, descriptor: int) -> None:
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        if not ready.poll(0):
            return
        try:
            with stdin_readable():
                data = os.read(descriptor, _CHUNK)
            *whole, self._begun = (self._begun + data).split(b"\n")
            if not data:
                whole, self._begun, self.descriptor = [self._begun], b"", None
            for line in whole:
                if text := decoded(bounded(line, self._limit)).strip():
                    self._require_question(text)
                    self._whole.append(text)
            bounded(self._begun, self._limit)
        except UsageError as error:
            self.refusal, self.descriptor = error, None

    def _require_question(self, text: str) -> None:
        """Raise UsageError for what is no question, or is too large in the form that is stored."""
        require_question(text)
        written = write_query(text, _SOME_ID, self._context_file)
        bounded(written.encode(), self._limit, "the question, written as JSON,")


class _Line:
    """One question to one shard: not asked yet while it has neither an id nor an error."""

    def __init__(self, question: str, shard: str) -> None:
        self.question = question
        self.shard = shard
        self.id: int | None = None
        self.error: AutopollError | None = None
        self.deadline = inf

    @property
    def asked(self) -> bool:
        """Tell whether it was stored or refused."""
        return self.id is not None or self.error is not None


class LineQuestions(PollerConnection):
    """A connection that asks, whenever it waits for news, what has come meanwhile."""

    def __init__(
        self,
        home: "Home",
        cli: CommandLine,
        client: Client,
        lines: Lines,
        shards: list[str],
        context_file: str | None,
        timeout: float,
    ) -> None:
        super().__init__(home)
        self.sent = False  # whether any question was stored
        self._cli = cli
        self._client = client
        self._lines = lines
        self._shards = shards
        self._context_file = context_file
        self._timeout = timeout
        self._questions: deque[_Line] = deque()  # taken and not printed yet, in their order
        self._unasked: list[_Line] = []  # those of them that are not asked yet
        self._late: list[int] = []
        self._limited_until = 0.0
        self._code = Exit.OK

    @property
    def ids(self) -> list[int]:
        """The questions that are stored, and whose outcome is not printed."""
        return [line.id for line in self._questions if line.id is not None]

    def run(self) -> Exit:
        """Ask until the input ends and print each outcome; return the worst code.

        Raises TimedOut at the end where answers did not come in time; what keeps a line from being
        asked, after the outcomes of those before it, while those after it are not asked; and Down
        when nobody is there to answer. What is stored then and has no outcome is printed first.
        """
        try:
            while True:
                self._ask_what_came()
                first = self._questions[0] if self._questions else None
                if first and first.error:
                    raise first.error
                if first and first.id is not None:
                    self._print_first(first.id)
                elif self._questions or not self._lines.ended:
                    self.wait(_IDLE_S)
                else:
                    break
        except AutopollError:
            print_ids(self._cli, self.ids)
            raise
        if self._lines.refusal:
            raise self._lines.refusal
        if not self.sent:
            raise UsageError("stdin holds no question", "Give one a line.")
        if self._late:
            raise timed_out(self._late, self._timeout)
        return self._code

    def wait(self, seconds: float) -> bool:
        """Wait for news, and ask what comes meanwhile; also return when the first was asked."""
        end = time.monotonic() + seconds
        had_next = self._has_next()
        while True:
            self._ask_what_came()
            now = time.monotonic()
            if now >= end or (not had_next and self._has_next()):
                return False
            pause = self._limited_until - now if self._limited_until > now else inf
            if super().wait(min(end - now, pause)):
                return True

    def _has_next(self) -> bool:
        """Tell whether the first line was asked, or none will come."""
        return self._questions[0].asked if self._questions else self._lines.ended

    def _print_first(self, number: int) -> None:
        """Wait for the outcome of the first question and print it."""
        left = self._questions[0].deadline - time.monotonic()
        try:
            [result] = self._client.wait([number], self, timeout=max(0.0, left))
        except TimedOut:
            self._late.append(number)
            result = self._client.result(number)
        self._print(result)
        self._questions.popleft()  # only now: one whose outcome cannot be printed is named

    def _print(self, result: "Result") -> None:
        if result.status == "error":
            self._code = self._cli.code = Exit.FAILED
        print_json(result)

    def _ask_what_came(self) -> None:
        if (room := self._room()) >= BATCH:
            for text in self._lines.take(max(1, room // len(self._shards))):
                new = [_Line(text, shard) for shard in self._shards]
                self._questions += new
                self._unasked += new
        self.also = self._lines.descriptor if self._room() >= BATCH else None
        while self._unasked and time.monotonic() >= self._limited_until:
            self._ask_some()

    def _room(self) -> int:
        return MOST_OUTSTANDING - len(self._questions)

    def _ask_some(self) -> None:
        """Ask the first questions to one shard that are not asked; keep what becomes of each."""
        shard = self._unasked[0].shard
        batch = [each for each in self._unasked if each.shard == shard][:BATCH]
        with undisturbed():
            stored, listening = self._submit(batch, shard)
            now = time.monotonic()
            for line, one in zip(batch, stored, strict=True):
                if isinstance(one, SentMessage):
                    line.id, line.deadline, self.sent = one.id, now + self._timeout, True
                elif not isinstance(one, RateLimited):
                    line.error = one
        self._unasked = [each for each in self._unasked if not each.asked]
        if waits := [one.wait_ms for one in stored if isinstance(one, RateLimited)]:
            self._limited_until = now + min(waits) / 1000
        if refused := next((each for each in batch if each.error), None):
            self._ask_nothing_after(refused)
        if not listening and (ids := self.ids):
            raise down(ids)

    def _submit(self, batch: list[_Line], shard: str) -> tuple[list[Stored], bool]:
        """Ask questions; what keeps all of them from being stored is the error of each."""
        try:
            return self._client.submit(
                [each.question for each in batch],
                shard,
                context_file=self._context_file,
                connection=self,
            )
        except AutopollError as error:
            return [error] * len(batch), True

    def _ask_nothing_after(self, refused: _Line) -> None:
        """End the lines with one that was refused, but for those after it that are stored."""
        self._lines.stop()
        lines = list(self._questions)
        end = lines.index(refused) + 1
        self._unasked = [each for each in lines[:end] if not each.asked]
        self._questions = deque(lines[:end])
        self._questions += [each for each in lines[end:] if each.id is not None]
