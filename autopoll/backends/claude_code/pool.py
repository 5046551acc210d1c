"""The processes that wait for a question: made ready ahead, and renewed in the background.

A process is taken for one question and thrown away after it, so that no answer can belong to an
earlier question and no conversation knows of another. The option `session = "kept"` gives it back
after an answer, until it has answered enough, is too old or too large; after an error never.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from autopoll.backends.claude_code.claude_options import ClaudeOptions
from autopoll.backends.claude_code.claude_session import ClaudeSession
from autopoll.backends.claude_code.workspace import Workspace
from autopoll.backends.contract import Broken

_AGAIN_S, _AGAIN_AT_MOST_S = 0.5, 30.0  # until one that could not be made is tried again

_log = logging.getLogger(__name__)

Open = Callable[[Workspace, Callable[[ClaudeSession], None]], ClaudeSession]


class Pool:
    """At most `options.size` processes, in wait or at work."""

    def __init__(self, options: ClaudeOptions, open_session: Open) -> None:
        self._options, self._open = options, open_session
        self._loop = asyncio.get_running_loop()
        self._workspace: Workspace | None = None
        self._spares: deque[ClaudeSession] = deque()
        self._out: set[ClaudeSession] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._failures = 0  # in a row, of spares that did not come up or died while they waited
        self._failure: Broken | None = None
        self._again: asyncio.TimerHandle | None = None
        self.closed = False

    async def take(self, workspace: Workspace) -> ClaudeSession:
        """Return a process in this workspace; raise Broken when none can be made."""
        await self.warm(workspace)
        session = self._spares.popleft()
        self._out.add(session)
        self.tend()
        return session

    async def warm(self, workspace: Workspace) -> None:
        """Wait until a process waits in this workspace; raise Broken when none can be made."""
        self.use(workspace)
        while not self._spares:
            if self.closed:
                raise Broken("the claude-code backend is stopped")
            if not self._making:
                self._make()
            await asyncio.wait(self._making, return_when=asyncio.FIRST_COMPLETED)
            self.tend()
            if not self._spares and not self._making and self._failure is not None:
                raise self._failure

    def use(self, workspace: Workspace) -> None:
        """Make processes in this workspace from now on, and renew those that wait in another."""
        if workspace.current and workspace is not self._workspace:
            workspace.enter()
            if self._workspace is not None:
                self._workspace.leave()
            self._workspace = workspace
        self.tend()

    def give_back(self, session: ClaudeSession) -> None:
        """Take a process that has answered: it waits again if it is to be kept."""
        if session not in self._out:  # it ends with the pool
            return
        self._failures = 0
        self._out.remove(session)
        if self._options.kept and self._is_fit(session):
            self._spares.appendleft(session)
        else:
            self._end(session)
        self.tend()

    def throw_away(self, session: ClaudeSession) -> None:
        """Take a process that saw an error or was cancelled."""
        if session in self._out:  # else it ends already, with the pool
            self._out.remove(session)
            self._end(session)
        self.tend()

    def tend(self) -> None:
        """Throw away what is out of date or dead, and make what is missing."""
        for session in [each for each in self._spares if not self._is_fit(each)]:
            self._spares.remove(session)
            self._end(session)
        if self.closed or self._again is not None:
            return
        have = len(self._spares) + len(self._out) + len(self._making)
        for _ in range(self._options.size - have):
            self._make()

    def check(self) -> None:
        """Raise Broken when no process waits or works and the last one could not be made."""
        self.tend()
        if not self._spares and not self._out and not self._making and self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """End them all, side by side."""
        self.closed = True
        if self._again is not None:
            self._again.cancel()
        left = (*self._spares, *self._out)
        self._spares.clear()
        self._out.clear()
        for session in left:
            self._end(session)
        for task in self._making:
            task.cancel()
        while tasks := self._making | self._ending:
            await asyncio.wait(tasks)
        if self._workspace is not None:
            self._workspace.leave()
            self._workspace = None

    # --- making and ending

    def _make(self) -> None:
        assert self._workspace is not None
        task = self._loop.create_task(self._made(self._workspace))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _made(self, workspace: Workspace) -> None:
        """Make a process and let it wait; an error is kept for calls that need a process."""
        session = None
        try:
            session = self._open(workspace, self._lost)
            await session.connect(self._options.connect_timeout)
        except Broken as error:
            self._failure = error
            self._fail(str(error))
            if session is not None:
                self._end(session)
        except asyncio.CancelledError:
            if session is not None:
                self._end(session)
            raise
        else:
            if task := asyncio.current_task():
                self._making.discard(task)  # now, so that it is not counted twice
            self._failure = None
            if self.closed:
                self._end(session)
            else:
                self._spares.append(session)

    def _lost(self, session: ClaudeSession) -> None:
        """Handle the end of a process that waits; otherwise its caller gets the error."""
        if session in self._spares:
            self._spares.remove(session)
            self._end(session)
            self._fail(f"process {session.pid} ended while it waited")

    def _fail(self, why: str) -> None:
        """Try again later, and ever later while it goes on."""
        self._failures += 1
        wait = min(_AGAIN_AT_MOST_S, _AGAIN_S * 2 ** min(self._failures - 1, 16))
        _log.warning("%s; the next one is made in %.1f s", why, wait)
        if self._again is None and not self.closed:
            self._again = self._loop.call_later(wait, self._retry)

    def _retry(self) -> None:
        self._again = None
        self.tend()

    def _end(self, session: ClaudeSession) -> None:
        """Close it: asked to end before it is killed, so that it removes its files."""
        task = self._loop.create_task(session.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _is_fit(self, session: ClaudeSession) -> bool:
        options = self._options
        return (
            session.alive
            and session.workspace is self._workspace
            and self._loop.time() - session.born < options.max_age
            and session.asked < (options.max_questions if options.kept else 1)
            and (session.asked == 0 or session.rss < options.max_memory)
        )
