"""Questions a line, for a program at the other end: asked as they come, answered in their order."""

import os
import select
import time
from collections import deque
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

from autopoll.cli.awaiting import print_ids
from autopoll.cli.base_command import CommandLine
from autopoll.cli.interrupt import undisturbed
from autopoll.cli.question_input import bounded, decoded
from autopoll.cli.render import print_json
from autopoll.client.client import Client, require_question
from autopoll.client.outcome_wait import down, timed_out
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import AutopollError, Exit, RateLimited, TimedOut, UsageError

if TYPE_CHECKING:
    from autopoll.client.result import Result
    from autopoll.home.home import Home

MOST_OUTSTANDING = 1000  # asked and not printed; what comes beyond that waits in the pipe
BATCH = 200  # asked at once
_CHUNK = 64 * 1024
_IDLE_S = 3600.0


class Lines:
    """The lines of a descriptor, as far as they have come; empty ones are left out.

    They end with the first that is no question, of which `refusal` says why.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self.ended = False
        self.refusal: UsageError | None = None
        self._limit = limit
        self._held = b""

    def read(self) -> list[str]:
        """Return what has come, without waiting."""
        ready = select.poll()
        ready.register(self.descriptor, select.POLLIN)
        if self.ended or not ready.poll(0):
            return []
        data = os.read(self.descriptor, _CHUNK)
        self.ended = not data
        *whole, self._held = (self._held + data).split(b"\n")
        if self.ended:
            whole, self._held = [self._held], b""
        lines = []
        try:
            for line in whole:
                if text := decoded(bounded(line, self._limit)).strip():
                    require_question(text)
                    lines.append(text)
            bounded(self._held, self._limit)
        except UsageError as error:
            self.refusal, self.ended = error, True
        return lines


class _Line:
    """One question to one shard; without an id it is not asked yet."""

    def __init__(self, question: str, shard: str) -> None:
        self.question = question
        self.shard = shard
        self.id: int | None = None
        self.deadline = inf


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
        self._cli = cli
        self._client = client
        self._lines = lines
        self._shards = shards
        self._context_file = context_file
        self._timeout = timeout
        self._questions: deque[_Line] = deque()  # not printed yet, in their order
        self._late: list[int] = []
        self._retry_at = 0.0
        self._code = Exit.OK
        self._any = False

    @property
    def ids(self) -> list[int]:
        """The questions that are stored, and whose outcome is not printed."""
        return [line.id for line in self._questions if line.id is not None]

    def run(self) -> Exit:
        """Ask until the input ends and print each outcome; return the worst code.

        Raises TimedOut at the end where answers did not come in time; what keeps a line from being
        asked, after the outcomes of those before it; and Down when nobody is there to answer.
        """
        try:
            while True:
                self._ask_what_came()
                if self._questions and self._questions[0].id is not None:
                    self._print_first(self._questions[0].id)
                elif self._questions or not self._lines.ended:
                    self.wait(_IDLE_S)
                else:
                    break
        except AutopollError:
            print_ids(self._cli, self.ids)
            raise
        if self._lines.refusal:
            raise self._lines.refusal
        if not self._any:
            raise UsageError("stdin holds no question", "Give one a line.")
        if self._late:
            raise timed_out(self._late, self._timeout)
        return self._code

    def wait(self, seconds: float) -> bool:
        """Wait for news, and ask what comes meanwhile; also return when a first line was asked."""
        end = time.monotonic() + seconds
        was_asked = bool(self.ids)
        while True:
            self._ask_what_came()
            now = time.monotonic()
            if now >= end or (not was_asked and (self.ids or self._lines.ended)):
                return False
            pause = self._retry_at - now if self._retry_at > now else inf
            if super().wait(min(end - now, pause)):
                return True

    def _print_first(self, number: int) -> None:
        """Wait for the outcome of the first question and print it."""
        left = self._questions[0].deadline - time.monotonic()
        try:
            [result] = self._client.wait([number], self, timeout=max(0.0, left))
        except TimedOut:
            self._late.append(number)
            result = self._client.result(number)
        self._questions.popleft()
        self._print(result)

    def _print(self, result: "Result") -> None:
        if result.status == "error":
            self._code = self._cli.code = Exit.FAILED
        print_json(result)

    def _ask_what_came(self) -> None:
        room = MOST_OUTSTANDING - len(self._questions)
        if room > 0 and (lines := self._lines.read()):
            self._any = True
            self._questions += [_Line(each, shard) for each in lines for shard in self._shards]
        self.also = self._lines.descriptor if room > 0 and not self._lines.ended else None
        while time.monotonic() >= self._retry_at and self._ask_some():
            pass

    def _ask_some(self) -> bool:
        """Ask the first questions to one shard that are not asked; tell whether more may be."""
        new = (line for line in self._questions if line.id is None)
        if (first := next(new, None)) is None:
            return False
        batch = [first, *islice((each for each in new if each.shard == first.shard), BATCH - 1)]
        with undisturbed():
            stored, listening = self._client.submit(
                [each.question for each in batch],
                first.shard,
                context_file=self._context_file,
                connection=self,
            )
            now = time.monotonic()
            for line, one in zip(batch, stored, strict=True):
                if not isinstance(one, AutopollError):
                    line.id, line.deadline = one.id, now + self._timeout
        for one in stored:
            if isinstance(one, RateLimited):
                self._retry_at = now + one.wait_ms / 1000
                return False
            if isinstance(one, AutopollError):
                raise one
        if not listening:
            raise down(self.ids)
        return True
