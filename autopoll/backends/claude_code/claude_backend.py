"""The backend `claude-code`: questions answered by the Claude Code CLI from the shard's files."""

import asyncio
import importlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from autopoll.backends.claude_code.claude_options import KEY_ENV, ClaudeOptions
from autopoll.backends.claude_code.launch import command_line, environment
from autopoll.backends.claude_code.program import find_program
from autopoll.backends.claude_code.workspace import Workspace, Workspaces
from autopoll.backends.context.context_files import Context
from autopoll.backends.context.prompt import Measure, Prompt
from autopoll.backends.context.remarks import NOTHING, Remarks
from autopoll.backends.contract import Broken, Report, Retriable, Setting
from autopoll.backends.environment import claude_environment
from autopoll.backends.keys import read_key
from autopoll.backends.options import read_options
from autopoll.backends.requirements import need
from autopoll.errors import ConfigError
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.request import Reply, Request

if TYPE_CHECKING:
    from autopoll.backends.claude_code.claude_session import ClaudeSession
    from autopoll.backends.claude_code.pool import Pool

SDK = (0, 2, 186)  # elsewhere pip silently picks 0.1.7

_log = logging.getLogger(__name__)


class ClaudeCode:
    """A pool of CLI processes that wait for a question each."""

    def __init__(self, setting: Setting) -> None:
        self._options = options = read_options(setting, ClaudeOptions)
        if options.size < options.concurrency:
            raise ConfigError(
                f"shards.{setting.shard}.options.pool: {options.size} is below `concurrency`",
                f"Allowed: from {options.concurrency}, or leave it out.",
            )
        need(setting.shard, "claude-agent-sdk", SDK, "claude")
        self._program = find_program(setting, options.cli_path)
        if (
            read_key(setting, options.key_file, options.key_env) is None
            and options.key_env != KEY_ENV
        ):
            raise ConfigError(
                f"shards.{setting.shard}.options.key_env: {options.key_env} is not set",
                "Set it where `autopoll up` is called, or leave the option out.",
            )
        self._inherited = claude_environment(os.environ, setting.shard, options.env)
        self._setting = setting
        self._context = Context(setting)
        self.concurrency = options.concurrency
        self.dropped = 0  # citations that do not exist
        self._prompt: Prompt | None = None
        self._workspaces: Workspaces | None = None
        self._pool: Pool | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the context and make the first process ready; raise Broken when it does not come."""
        if self._pool is not None:
            return
        options = self._options
        # In a thread, because it takes seconds, and a loop that stands still is taken for hung.
        await asyncio.to_thread(importlib.import_module, "autopoll.backends.claude_code.pool")
        from autopoll.backends.claude_code.pool import Pool

        # It logs each end of a process as an error; our own error texts hold more.
        logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
        self._prompt = Prompt(
            self._context,
            self._setting.shard,
            window=options.window,
            context_tokens=options.context_tokens,
            instructions=options.instructions,
        )
        self._workspaces = Workspaces(
            Home(self._setting.root.resolve()),
            os.environ.get("AUTOPOLL_INSTANCE"),
            self._context if options.tools else None,
        )
        self._workspaces.open()
        self._pool = Pool(options, self._open)
        await self._prompt.look()
        await self._pool.warm(await self._workspaces.on(self._prompt.system, self._prompt.version))

    async def answer(self, request: Request, report: Report) -> Reply:
        """Have a process of its own answer; raise a failure of the contract.

        It is thrown away after an error, after a cancellation, and mostly after the answer too.
        """
        pool, prompt, workspaces = self._started()
        turn = await prompt.ask(request.question, request.context_file)
        session = await pool.take(await workspaces.on(turn.system, turn.version))
        answered = False
        try:
            answer = await session.ask(turn.user, report, self._options.stall_timeout)
            answered = True
        except Retriable as error:
            if pool.closed:
                raise Broken("the claude-code backend was stopped") from error
            raise
        finally:
            if answered:
                pool.give_back(session)
            else:
                pool.throw_away(session)
        cited = turn.cite(answer.text)
        if cited.dropped:
            self.dropped += cited.dropped
            _log.info("dropped %d citations of what is not in the context", cited.dropped)
        return Reply(answer=Answer(text=answer.text, sources=cited.sources), usage=answer.usage)

    async def probe(self) -> None:
        """Raise Broken when no process can be had; renew in the background what is out of date."""
        pool, prompt, workspaces = self._started()
        pool.check()
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(pool, prompt, workspaces))

    async def stop(self) -> None:
        """End every process and remove the private folder."""
        pool, self._pool = self._pool, None
        workspaces, self._workspaces = self._workspaces, None
        if self._renewing is not None:
            self._renewing.cancel()
        if self._prompt is not None:
            self._prompt.close()
        if pool is not None:
            await pool.close()
        if workspaces is not None:
            workspaces.close()

    @property
    def remarks(self) -> Remarks:
        """Remarks on single files of the context."""
        return self._prompt.remarks if self._prompt is not None else NOTHING

    async def measure(self) -> Measure:
        """Return how large the context is, estimated."""
        _, prompt, _ = self._started()
        await prompt.look()
        return prompt.size()

    async def _renew(self, pool: "Pool", prompt: Prompt, workspaces: Workspaces) -> None:
        """Have processes ready for the files as they are now, before somebody asks."""
        try:
            await prompt.look()
            pool.use(await workspaces.on(prompt.system, prompt.version))
        except Broken as error:
            _log.warning("cannot prepare for the next question: %s", error)

    def _started(self) -> tuple["Pool", Prompt, Workspaces]:
        if self._pool is None or self._prompt is None or self._workspaces is None:
            raise Broken("the claude-code backend is not started")
        return self._pool, self._prompt, self._workspaces

    def _open(
        self, workspace: Workspace, on_end: Callable[["ClaudeSession"], None]
    ) -> "ClaudeSession":
        from autopoll.backends.claude_code.claude_session import ClaudeSession

        options = self._options
        try:
            # Read again for each process, so that a key can be renewed without a restart.
            key = read_key(self._setting, options.key_file, options.key_env)
        except ConfigError as error:
            raise Broken(error.what, error.mend) from error
        return ClaudeSession(
            command_line(self._program, options, workspace),
            environment(self._inherited, options, workspace, key.value if key else None),
            workspace,
            on_end,
        )
