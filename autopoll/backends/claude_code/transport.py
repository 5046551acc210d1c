"""The process under the SDK: our own child in the place of the SDK's, for four reasons (ADR 11).

The SDK hands down our whole environment and can only add to it; its close waits up to twenty
seconds and leaves the process behind when it is cancelled; an end of the process in mid-query that
calls itself a success goes unnoticed; and what the process has started itself is not its concern.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from claude_agent_sdk import CLIConnectionError, Transport

from autopoll.backends.child.child import Child

MAX_LINE = 64 * 1024 * 1024  # one message; an answer stands in it more than once

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The process ended, or was ended by us; the text is how."""


class ChildTransport(Transport):
    """One CLI process. `on_end` is called once, at its end; `lines_received` counts its lines."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        self._command, self._folder, self._environment = command, folder, environment
        self._on_end = on_end
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.child: Child | None = None
        self._abandoned = ""
        self.lines_received = 0

    async def connect(self) -> None:
        """Start the process; raise Broken when it cannot be started."""
        self.child = Child(
            self._command,
            folder=self._folder,
            environment=self._environment,
            on_line=self._receive,
            on_end=self._end,
            max_line=MAX_LINE,
        )

    async def write(self, data: str) -> None:
        """Send a line; it is written as the process takes it."""
        if self.child is None or not self.is_ready():
            raise CLIConnectionError(self.ended)
        self.child.send(data.rstrip("\n").encode("utf-8", "replace"))

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield its messages; raise Gone at its end, whatever its exit code."""
        while (line := await self._lines.get()) is not None:
            if (message := self._read(line)) is not None:
                yield message
        raise Gone(self.ended)

    async def close(self) -> None:
        """Stop reading. The SDK may be cancelled in here, so Child.stop ends the process."""
        self.abandon("was closed")

    async def end_input(self) -> None:
        """Do nothing: the input is closed when the process is stopped."""

    def is_ready(self) -> bool:
        """Return whether it runs and is not abandoned."""
        return self.child is not None and self.child.ended is None and not self._abandoned

    @property
    def ended(self) -> str:
        """How it ended."""
        if self.child is None:
            return "the CLI is not started"
        return self._abandoned or self.child.ended or "the CLI runs"

    def abandon(self, why: str) -> None:
        """End `read_messages` with this reason; the process lives until it is stopped."""
        if self.is_ready() and self.child is not None:
            self._abandoned = f"the CLI (pid {self.child.pid}) {why}"
            self._lines.put_nowait(None)

    def _receive(self, line: bytes) -> None:
        self.lines_received += 1
        self._lines.put_nowait(line)

    def _end(self, _: str) -> None:
        self._lines.put_nowait(None)
        self._on_end()

    def _read(self, line: bytes) -> dict[str, Any] | None:
        """Return the message in a line; what only looks like a message ends it all."""
        line = line.strip()
        if not line.startswith(b"{"):  # some builds print words there as well
            if line:
                _log.debug("ignored a line of the CLI's output: %r", line[:80])
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            self.abandon("sent a message that is not JSON")
            raise Gone(self.ended) from error
        return message if isinstance(message, dict) else None
