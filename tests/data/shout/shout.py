"""A backend in a package of its own: docs/backends.md in code, and nothing of autopoll's tests."""

from autopoll.backends.contract import Broken, Report, Setting
from autopoll.backends.options import Options, read_options
from autopoll.message import Answer
from autopoll.request import Reply, Request, Usage


class ShoutOptions(Options, frozen=True, kw_only=True):
    mark: str = "!"


class Shout:
    concurrency = 1

    def __init__(self, setting: Setting) -> None:
        self.options = read_options(setting, ShoutOptions)
        self.started = False

    async def start(self) -> None:
        self.started = True

    async def answer(self, request: Request, report: Report) -> Reply:
        await self.probe()
        text = request.question.upper() + self.options.mark
        report.piece(text)
        return Reply(answer=Answer(text=text), usage=Usage(output_tokens=len(text)))

    async def probe(self) -> None:
        if not self.started:
            raise Broken("not started")

    async def stop(self) -> None:
        self.started = False
