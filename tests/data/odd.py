"""A backend that runs in the worker itself and says what is no text; for tests.

A question is the name of what to do, or is given back.
"""

import asyncio
import os

from autopoll.backends.contract import Broken, Permanent, Report, Retriable, Setting
from autopoll.message import Answer
from autopoll.request import Reply, Request

HALF = "half \ud83d"


class Kind(str):
    """A text of a library's own."""


class Speechless(Exception):
    """Raises when it is to be told."""

    def __str__(self) -> str:
        raise ValueError(HALF)


class Odd:
    """See the contract of backends."""

    concurrency = 2

    def __init__(self, _setting: Setting) -> None:
        self._clings = False

    async def start(self) -> None:
        """Nothing to warm up."""

    async def stop(self) -> None:
        """Nothing to leave behind."""

    async def probe(self) -> None:
        """Well, unless it clings: then it lets go of nothing, not even of this."""
        while self._clings:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def answer(self, request: Request, report: Report) -> Reply:
        """Do what the question says."""
        match request.question:
            case "answer":
                return Reply(answer=Answer(text=HALF))
            case "source":
                return Reply(answer=Answer(text="so", sources=["a.md:1-2", HALF]))
            case "kind":
                return Reply(answer=Answer(text=Kind("so"), sources=[Kind(HALF)]))
            case "pieces":
                report("\ud83d")
                report.piece("\ud83d")
                report.piece("\ude00")
                await asyncio.sleep(0.2)
                return Reply(answer=Answer(text="\ud83d\ude00"))
            case "object":
                return Reply(answer=Answer(text=object()))  # type: ignore[arg-type]
            case "number":
                return Reply(answer=Answer(text=10**30))  # type: ignore[arg-type]
            case "nothing":
                return None  # type: ignore[return-value]
            case "error":
                raise Permanent(HALF)
            case "flood":
                raise Permanent("x" * 20_000_000)
            case "once retriable" if request.attempt == 1:
                raise Retriable(HALF, retry_after_ms=1)
            case "once broken" if request.attempt == 1:
                raise Broken(HALF)
            case "once raised" if request.attempt == 1:
                raise RuntimeError(HALF)
            case "once speechless" if request.attempt == 1:
                raise Speechless
            case "once gone" if request.attempt == 1:
                raise GeneratorExit
            case "wrong":
                raise Permanent("so", usage=object())  # type: ignore[arg-type]
            case "once clinging" if request.attempt == 1:
                self._clings = True
                await asyncio.sleep(60)
            case "pid":
                return Reply(answer=Answer(text=str(os.getpid())))
        return Reply(answer=Answer(text=request.question))
