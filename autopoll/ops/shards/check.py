"""Checks a shard step by step; each step has a result and a time.

Settings and context are read, an instance is started in this process where that shows more, and a
real question is asked: through a home that runs, else of that instance.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from autopoll.backends import open_backend
from autopoll.backends.context.context_files import Context, Source
from autopoll.backends.context.excerpts import Page
from autopoll.backends.context.remarks import NOTHING, Remarks
from autopoll.backends.contract import Backend, Broken, Setting
from autopoll.backends.environment import worker_environment
from autopoll.errors import AutopollError, ConfigError, TimedOut
from autopoll.home.config import Config, context_paths
from autopoll.home.home import Home, instance_name
from autopoll.ops.process_tree import Tree, under
from autopoll.ops.shards import canary
from autopoll.ops.shards.results import (
    Canary,
    CheckResult,
    ContextSize,
    Paused,
    Step,
    StepFailed,
    elapsed_ms,
)
from autopoll.process import shard_pause
from autopoll.process.heartbeat import ProcessState
from autopoll.process.signals import hold_back, let_in
from autopoll.redact.redact import redact
from autopoll.request import Refusal

START_LIMIT_S = 60.0

log = logging.getLogger(__name__)

Say = Callable[[str], None]
_T = TypeVar("_T")


class ShardCheck:
    """The steps of the check of one shard, in order; each raises StepFailed."""

    def __init__(self, home: Home, config: Config, shard: str, tree: Tree | None, say: Say) -> None:
        self.home = home
        self.config = config
        self.shard = shard
        self.section = config.shards[shard]
        self.tree = tree
        self.steps: list[Step] = []
        self.size: ContextSize | None = None
        self.remarks = NOTHING
        self.canary: Canary | None = None
        self.asked: int | None = None  # the question that the shard was asked
        self._say = say

    def run(self) -> CheckResult:
        """Go through all steps until one fails."""
        try:
            backend = self.settings()
            self.context()
            self.try_instance(backend, ask=self.tree is None)
            if self.tree:
                self.question()
        except StepFailed:
            log.debug("shard %s failed its check", self.shard)  # its last step says why
        return self.result()

    def try_instance(self, backend: Backend, *, ask: bool) -> None:
        """Try an instance in a loop of its own; raises StepFailed."""
        with under(self.environ()), asyncio.Runner() as runner:
            hold_back()  # Ctrl-C would leave half a loop, which complains when it is collected
            try:
                runner.get_loop()
            finally:
                let_in()
            runner.run(self.instance(backend, ask=ask))

    def result(self) -> CheckResult:
        """Return the steps taken so far and what they found."""
        return CheckResult(
            shard=self.shard,
            backend=self.section.backend,
            ok=all(step.ok for step in self.steps),
            steps=self.steps,
            context=self.size,
            context_remarks=self.remarks,
            canary=self.canary,
        )

    def environ(self) -> Mapping[str, str]:
        """Return the environment of a worker: of the running home, or of one started from here."""
        if self.tree:
            return self.tree.environ
        options = [each.options for each in self.config.shards.values()]
        return worker_environment(os.environ, options)

    def setting(self) -> Setting:
        """Return what the backend is given."""
        return Setting(
            shard=self.shard,
            root=self.home.root,
            context=context_paths(self.home, self.section),
            options=self.section.options,
        )

    def settings(self) -> Backend:
        """Build the backend, which checks its options and, as far as it can, what it needs."""

        def check() -> tuple[Backend, str]:
            with under(self.environ()):
                return open_backend(self.section.backend, self.setting()), self.section.backend

        return self.step("settings", check)

    def context(self) -> None:
        """Read the context files."""

        def read() -> tuple[ContextSize, str]:
            context = Context(self.setting())
            listing = context.listing()
            remarks = listing.remarks(context.name)
            pages = []
            for path in listing.files:
                found = context.found(path)
                if isinstance(found, Source):
                    pages.append(Page.of(context.name(path), found.text))
                if remark := context.remark(path, found):
                    remarks.append(remark)
            self.remarks = Remarks.of(remarks)
            size = ContextSize(files=len(pages), tokens=sum(page.tokens for page in pages))
            if self.section.context and not pages:
                why = "; ".join(self.remarks.lines(3))
                raise ConfigError(
                    f"shards.{self.shard}.context holds no text file{': ' * bool(why)}{why}",
                    "Name files or folders with text; hidden files are none.",
                )
            return size, f"{size.files} files, about {size.tokens:,} tokens"

        self.size = self.step("context", read)

    async def instance(self, backend: Backend, *, ask: bool) -> None:
        """Start an instance here where nothing runs or where it can measure, and stop it again."""
        measure = getattr(backend, "measure", None)
        if self.tree and measure is None:
            return
        try:
            await self._step("instance", self._start(backend))
            if measure:
                self.size = await self._step("context", self._measured(measure))
            if ask:
                self.canary = await self._step("canary", self._ask_instance(backend))
        finally:
            async with asyncio.timeout(START_LIMIT_S):
                await backend.stop()

    def question(self) -> None:
        """Ask the shard a real question through bridge, poller, pipes and worker."""

        def ask() -> tuple[Canary, str]:
            self.refuse_held()  # before anything is asked, for it would stay in the queue
            found = canary.ask_home(
                self.home, self.config, self.shard, self.limit_s, on_asked, self._raise_if_paused
            )
            return found, found.summary

        def on_asked(message_id: int) -> None:
            self.asked = message_id

        self.canary = self.step("canary", ask)

    def refuse_held(self) -> None:
        """Raise what keeps the shard's workers from working: a pause does not fail a reload, but it
        fails a check."""
        assert self.tree
        self._raise_if_paused()
        for number in range(1, self.section.instances + 1):
            name = instance_name(self.shard, number)
            beat = self.tree.beat(name)
            if beat and beat.state is ProcessState.HELD:
                word, _, _ = beat.note.partition(" ")
                cause = word if word in get_args(Refusal) else "held"
                raise Paused(cause, f"{name} is held: {beat.note}", f"See: autopoll logs {name}")

    # --- how a step is taken

    def step(self, name: str, work: Callable[[], tuple[_T, str]]) -> _T:
        """Take a step that returns its result and a line about it; raise StepFailed."""
        self._say(f"{self.shard}: {name}")
        began = time.monotonic()
        try:
            result, detail = work()
        except AutopollError as error:
            raise self._failed(name, began, error) from error
        self.steps.append(Step(name=name, ok=True, ms=elapsed_ms(began), detail=detail))
        return result

    async def _step(self, name: str, work: Any) -> Any:
        self._say(f"{self.shard}: {name}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.limit_s if name == "canary" else START_LIMIT_S):
                result, detail = await work
        except AutopollError as error:
            raise self._failed(name, began, error) from error
        except TimeoutError as error:
            late = TimedOut(f"nothing within {time.monotonic() - began:.0f} s")
            raise self._failed(name, began, late) from error
        except (Exception, SystemExit) as error:  # a backend is foreign code
            broken = Broken(f"{type(error).__name__}: {error}")
            raise self._failed(name, began, broken) from error
        self.steps.append(Step(name=name, ok=True, ms=elapsed_ms(began), detail=detail))
        return result

    def _failed(self, name: str, began: float, error: AutopollError) -> StepFailed:
        failure = StepFailed(name, error)
        said, kind, mend = redact(failure.what), failure.kind, failure.mend
        self.steps.append(
            Step(name=name, ok=False, ms=elapsed_ms(began), detail=said, failure=kind, mend=mend)
        )
        return failure

    # --- what the steps do

    @property
    def limit_s(self) -> float:
        """Seconds that the canary may take."""
        return min(self.section.request_timeout, canary.LIMIT_S)

    async def _start(self, backend: Backend) -> tuple[None, str]:
        await backend.start()
        await backend.probe()
        return None, "started in this process"

    async def _measured(self, measure: Callable[[], Any]) -> tuple[ContextSize, str]:
        found = await measure()
        size = ContextSize(
            files=found.files,
            tokens=found.tokens,
            window=found.window,
            share=round(found.share, 4),
            whole=found.whole,
            exact=found.exact,
        )
        about = "" if size.exact else "about "
        how = "" if size.whole else "; too much for each prompt, so passages are chosen"
        words = f"{about}{size.tokens:,} tokens, {found.share:.1%} of a window of {size.window:,}"
        return size, f"{size.files} files, {words}{how}"

    async def _ask_instance(self, backend: Backend) -> tuple[Canary, str]:
        asked = await canary.ask_instance(backend, self.limit_s)
        return asked, asked.summary

    def _raise_if_paused(self) -> None:
        if paused := shard_pause.read(self.home, self.shard):
            raise Paused(
                paused.cause,
                f"the shard is paused, {paused.words}",
                "It is tried again by itself; to try at once: autopoll restart",
            )
