"""Tries a shard, step by step, and says of each step what came of it, and how long it took.

Settings and context are looked at, an instance is started in this process where that tells more,
and a real question is asked: through the whole chain of a home that runs, else of that instance.
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
from autopoll.backends.contract import Backend, Broken, Permanent, Setting, Unheard
from autopoll.backends.environment import worker_environment
from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client import outcome_wait
from autopoll.client.client import Client
from autopoll.errors import AutopollError, ConfigError, TimedOut
from autopoll.home.config import Config, context_paths
from autopoll.home.home import Home, instance_name
from autopoll.ops.process_tree import Tree, under
from autopoll.ops.shards.results import Canary, Failure, Paused, Size, Step, Trial
from autopoll.process import pause
from autopoll.process.heartbeat import ProcessState
from autopoll.process.waiter import Waiter
from autopoll.redact.redact import redact
from autopoll.request import Refusal, Request

START_LIMIT_S = 60.0
CANARY = "In one short sentence: what can you answer questions about?"
CANARY_LIMIT_S = 120.0

log = logging.getLogger(__name__)

Say = Callable[[str], None]
_T = TypeVar("_T")


class Trying:
    """The steps of one shard's trial, in order; each raises Failure."""

    def __init__(self, home: Home, config: Config, shard: str, tree: Tree | None, say: Say) -> None:
        self.home = home
        self.config = config
        self.shard = shard
        self.section = config.shards[shard]
        self.tree = tree
        self.steps: list[Step] = []
        self.size: Size | None = None
        self.remarks = NOTHING
        self.canary: Canary | None = None
        self._say = say

    def run(self) -> Trial:
        """Go through all steps until one fails."""
        try:
            backend = self.settings()
            self.context()
            with under(self.environ()):
                asyncio.run(self.alone(backend, ask=self.tree is None))
            if self.tree:
                self.through_the_chain()
        except Failure:
            log.debug("shard %s failed its trial", self.shard)  # and its step says how
        return self.trial()

    def trial(self) -> Trial:
        """Return what has come of it so far."""
        return Trial(
            shard=self.shard,
            backend=self.section.backend,
            ok=all(step.ok for step in self.steps),
            steps=self.steps,
            context=self.size,
            context_remarks=self.remarks,
            canary=self.canary,
        )

    def environ(self) -> Mapping[str, str]:
        """Return what a worker would see: of the running home, or of one started from here."""
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
        """Build the backend, which checks its options, and what it needs as far as can be seen."""

        def check() -> tuple[Backend, str]:
            with under(self.environ()):
                return open_backend(self.section.backend, self.setting()), self.section.backend

        return self.step("settings", check)

    def context(self) -> None:
        """Look at the files."""

        def look() -> tuple[Size, str]:
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
            size = Size(files=len(pages), tokens=sum(page.tokens for page in pages))
            if self.section.context and not pages:
                why = "; ".join(self.remarks.lines(3))
                raise ConfigError(
                    f"shards.{self.shard}.context holds no text file{': ' * bool(why)}{why}",
                    "Name files or folders with text; hidden files are none.",
                )
            return size, f"{size.files} files, about {size.tokens:,} tokens"

        self.size = self.step("context", look)

    async def alone(self, backend: Backend, *, ask: bool) -> None:
        """Start an instance here where nothing runs or where it can measure, and stop it again."""
        measure = getattr(backend, "measure", None)
        if self.tree and measure is None:
            return
        try:
            await self._try("instance", self._start(backend))
            if measure:
                self.size = await self._try("context", self._measured(measure))
            if ask:
                self.canary = await self._try("canary", self._asked(backend))
        finally:
            async with asyncio.timeout(START_LIMIT_S):
                await backend.stop()

    def through_the_chain(self) -> None:
        """Ask the shard a real question through bridge, poller, pipes and worker."""

        def ask() -> tuple[Canary, str]:
            self.refuse_held()  # before anything is asked, for it would stay in the queue
            canary = self._ask_home()
            return canary, _told(canary)

        self.canary = self.step("canary", ask)

    def refuse_held(self) -> None:
        """Raise what keeps the shard's workers from working: a pause is no failure of a reload, but
        one of a trial."""
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
        """Take a step that returns its result and what to tell of it; raise Failure."""
        self._say(f"{self.shard}: {name}")
        began = time.monotonic()
        try:
            result, detail = work()
        except AutopollError as error:
            raise self._failed(name, began, error) from error
        self.steps.append(Step(name=name, ok=True, ms=_ms(began), detail=detail))
        return result

    async def _try(self, name: str, work: Any) -> Any:
        self._say(f"{self.shard}: {name}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.limit if name == "canary" else START_LIMIT_S):
                result, detail = await work
        except AutopollError as error:
            raise self._failed(name, began, error) from error
        except TimeoutError as error:
            late = TimedOut(f"nothing within {time.monotonic() - began:.0f} s")
            raise self._failed(name, began, late) from error
        except (Exception, SystemExit) as error:  # a backend is foreign code
            broken = Broken(f"{type(error).__name__}: {error}")
            raise self._failed(name, began, broken) from error
        self.steps.append(Step(name=name, ok=True, ms=_ms(began), detail=detail))
        return result

    def _failed(self, name: str, began: float, error: AutopollError) -> Failure:
        failure = Failure(name, error)
        said, kind, mend = redact(failure.what), failure.kind, failure.mend
        self.steps.append(
            Step(name=name, ok=False, ms=_ms(began), detail=said, failure=kind, mend=mend)
        )
        return failure

    # --- what the steps do

    @property
    def limit(self) -> float:
        """Seconds that the canary may take."""
        return min(self.section.request_timeout, CANARY_LIMIT_S)

    async def _start(self, backend: Backend) -> tuple[None, str]:
        await backend.start()
        await backend.probe()
        return None, "started in this process"

    async def _measured(self, measure: Callable[[], Any]) -> tuple[Size, str]:
        found = await measure()
        size = Size(
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

    async def _asked(self, backend: Backend) -> tuple[Canary, str]:
        began = time.monotonic()
        request = Request(
            delivery=0,
            fence=0,
            attempt=1,
            timeout_ms=round(self.limit * 1000),
            conversation="canary",
            question=CANARY,
        )
        reply = await backend.answer(request, Unheard())
        if reply.answer.error:
            raise Permanent(reply.answer.text)
        canary = Canary(
            answer=reply.answer.text,
            sources=list(reply.answer.sources),
            ms=_ms(began),
            usage=reply.usage,
        )
        return canary, _told(canary)

    def _raise_if_paused(self) -> None:
        if paused := pause.read(self.home, self.shard):
            raise Paused(
                paused.cause,
                f"the shard is paused, {paused.words}",
                "It is tried again by itself; to try at once: autopoll restart",
            )

    def _ask_home(self) -> Canary:
        bridge = connect(self.home, self.config)
        try:
            client = Client(self.home, self.config, bridge)

            with Waiter(self.home) as waiter:
                began = time.monotonic()
                asked = client.ask([CANARY], self.shard, waiter=waiter)
                if not asked.listening:
                    raise outcome_wait.down(asked.ids)
                [result] = client.wait(
                    asked.ids,
                    waiter,
                    timeout=self.limit + 5,
                    on_news=lambda *_: self._raise_if_paused(),
                )
            if result.status == "error":
                _forget(bridge, result.id)
        finally:
            bridge.close()
        if result.status == "error":
            raise Permanent(
                f"the question was answered with an error: {result.answer}",
                f"See: autopoll logs {self.shard}",
            )
        return Canary(
            answer=result.answer or "",
            sources=list(result.sources),
            ms=_ms(began),
            usage=result.usage,
        )


def _forget(bridge: Bridge, message_id: int) -> None:
    """Keep no dead letter of a question that nobody needs an answer to."""
    if any(letter.message_id == message_id for letter in bridge.overview.dead_letters()):
        bridge.overview.drop_dead(message_id)


def _told(canary: Canary) -> str:
    sources = f" [{', '.join(canary.sources)}]" if canary.sources else ""
    return " ".join(canary.answer.split()) + sources


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
