"""Returns the question, after an optional delay; for tests and benchmarks."""

import asyncio
from typing import Annotated

import msgspec

from autopoll.backends.contract import Broken, Report, Setting
from autopoll.backends.options import Options, read_options
from autopoll.clock import Duration
from autopoll.message import Answer
from autopoll.request import Reply, Request


class EchoOptions(Options, frozen=True, kw_only=True):
    """Options of the backend `echo` in autopoll.toml."""

    delay: Duration | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1


class Echo:
    """The smallest backend there can be."""

    def __init__(self, setting: Setting) -> None:
        self._options = read_options(setting, EchoOptions)
        self._started = False
        self.concurrency = self._options.concurrency

    async def start(self) -> None:
        """Become ready at once."""
        self._started = True

    async def answer(self, request: Request, report: Report) -> Reply:
        """Return the question as its own answer; raise Broken when not started."""
        await self.probe()
        if self._options.delay is not None:
            report(f"waiting {self._options.delay.ms} ms")
            await asyncio.sleep(self._options.delay)
        return Reply(answer=Answer(text=request.question))

    async def probe(self) -> None:
        """Raise Broken unless started."""
        if not self._started:
            raise Broken("the echo backend is not started")

    async def stop(self) -> None:
        """Cease to answer."""
        self._started = False
