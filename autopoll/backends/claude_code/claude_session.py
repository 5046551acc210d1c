"""One CLI process, from its start to its end; whatever goes wrong with it ends it.

A watch looks at it once a second while something is expected of it: one that is silent for too
long, or was stopped by a signal, is given up. So nothing here waits under a time-out of its own,
and there is one way in which a session fails: its process is gone, and it is known why.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ClaudeSDKError

from autopoll.backends.claude_code.outcome import AnswerCollector, ClaudeAnswer
from autopoll.backends.claude_code.transport import ChildTransport, Gone
from autopoll.backends.claude_code.workspace import Workspace
from autopoll.backends.contract import Broken, Report, Retriable
from autopoll.redact.redact import redact

WATCH_S = 1.0
STOPPED_LOOKS = 2  # in a row, for a debugger or a suspended machine stops a process for a moment
DISCONNECT_S = 1.0

_log = logging.getLogger(__name__)
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ClaudeSession:
    """One process that was made ready ahead of a question."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        workspace: Workspace,
        on_end: Callable[["ClaudeSession"], None],
    ) -> None:
        """Prepare; `on_end` is called when the process ends, expected or not."""
        self.workspace = workspace
        self.asked = 0
        self._loop = asyncio.get_running_loop()
        self.born = self._loop.time()
        self._transport = ChildTransport(
            command,
            folder=workspace.files,
            environment=environment,
            on_end=lambda: on_end(self),
        )
        # All other options of the SDK are for its own transport, which ours replaces.
        self._client = ClaudeSDKClient(ClaudeAgentOptions(verbatim_prompts=True), self._transport)
        self._watch: asyncio.TimerHandle | None = None
        self._limit = 0.0
        self._lines_seen, self._seen_at, self._stopped = 0, 0.0, 0
        workspace.enter()
        self._entered = True

    @property
    def alive(self) -> bool:
        """Whether it can be asked: its process lives and is not stopped."""
        return self._transport.is_ready() and self._state() != "T"

    @property
    def rss(self) -> int:
        """Memory of the process in bytes; 0 when it has gone."""
        text = self._read_proc("statm")
        return int(text.split()[1]) * _PAGE if text else 0

    @property
    def pid(self) -> int | None:
        """The process, if it was started."""
        return self._transport.child.pid if self._transport.child else None

    async def connect(self, limit_s: float) -> None:
        """Start the process and see it ready; raise Broken when it is not within the time."""
        self._expect(limit_s)
        try:
            await self._client.connect()
        except Broken:
            raise
        except Gone as error:
            raise Broken(f"the Claude Code CLI does not start: {error}") from error
        # By the SDK's own words: what the process refuses comes as a bare Exception.
        except Exception as error:
            raise Broken(f"the Claude Code CLI does not start: {redact(str(error))}") from error
        finally:
            self._rest()

    async def ask(self, text: str, report: Report, stall_s: float) -> ClaudeAnswer:
        """Ask a question and return its answer; raise a failure of the contract.

        Whatever is raised, the session must not be asked again.
        """
        self.asked += 1
        collector = AnswerCollector(report)
        self._expect(stall_s)
        try:
            await self._client.query(text)
            async for message in self._client.receive_messages():
                if (answer := collector.take(message)) is not None:
                    return answer
        except Gone as error:
            raise Retriable(f"no answer: {error}", usage=collector.spent) from error
        except ClaudeSDKError as error:  # a message of a wrong form, a pipe that is closed
            reason = redact(str(error))
            raise Retriable(f"no answer: {reason}", usage=collector.spent) from error
        finally:
            self._rest()
        what = "no answer: the CLI stopped speaking without a result"
        raise Retriable(what, usage=collector.spent)

    async def close(self) -> None:
        """End the process and all that it has started; tolerated twice, within five seconds."""
        self._rest()
        try:
            if self._transport.child is not None:
                await self._transport.child.stop()
            async with asyncio.timeout(DISCONNECT_S):
                await self._client.disconnect()
        except TimeoutError:
            _log.warning("the SDK does not let go of process %s, which is gone", self.pid)
        finally:
            if self._entered:
                self._entered = False
                self.workspace.leave()

    # --- the watch

    def _expect(self, limit_s: float) -> None:
        """Start to watch it: from now on it must send a line every `limit_s` seconds."""
        self._limit, self._seen_at, self._stopped = limit_s, self._loop.time(), 0
        self._watch = self._loop.call_later(WATCH_S, self._look)

    def _rest(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        self._watch = self._loop.call_later(WATCH_S, self._look)
        now, lines = self._loop.time(), self._transport.lines_received
        if lines != self._lines_seen:
            self._lines_seen, self._seen_at = lines, now
        self._stopped = self._stopped + 1 if self._state() == "T" else 0
        if self._stopped >= STOPPED_LOOKS:
            self._transport.abandon("was stopped by a signal and did not go on")
        elif now - self._seen_at > self._limit:
            self._transport.abandon(f"said nothing for {self._limit:g} s")

    def _state(self) -> str:
        """Return the letter of its state in /proc; empty when it has gone."""
        text = self._read_proc("stat")
        return text.rpartition(")")[2].split()[0] if text else ""

    def _read_proc(self, name: str) -> str:
        if self.pid is None or not self._transport.is_ready():
            return ""
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text("utf-8", "replace")
        except OSError:  # gone this moment
            return ""
