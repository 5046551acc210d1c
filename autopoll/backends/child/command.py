"""Any program that keeps running and speaks one JSON object a line on its input and output.

To it:    {"id":7,"question":…,"context":[…],"context_file":…,"conversation":…,"timeout_ms":…}
          {"cancel":7}
From it:  {"id":7,"answer":…,"sources":[…],"usage":{…}}
          {"id":7,"error":…,"retriable":true,"retry_after_ms":…}
          {"id":7,"error":…,"unavailable":"quota","resume_after_ms":…}
          {"id":7,"progress":…}
          {"id":7,"piece":…}
          {"ready":true}

An id is never used twice, so an answer that comes late answers nothing. docs/backends.md is the
guide for authors of such programs.
"""

import asyncio
import json
import logging
import os
import shutil
from itertools import count
from typing import Annotated

import msgspec

from autopoll.backends.child.child import Child
from autopoll.backends.context.context_files import Context
from autopoll.backends.contract import (
    Broken,
    Permanent,
    Report,
    Retriable,
    Setting,
    Unavailable,
)
from autopoll.backends.environment import child_environment
from autopoll.backends.options import Options, option_path, read_options
from autopoll.clock import Duration
from autopoll.errors import ConfigError
from autopoll.home import program_safety
from autopoll.message import Answer, to_json
from autopoll.redact.redact import redact
from autopoll.request import Refusal, Reply, Request, Usage

CANCEL_S = 1.0  # to drop a cancelled question
FIRST_LOOK_S = 0.1  # in which a program that cannot run at all has mostly died
PROGRESS_S = 0.1  # between two reports of one question
PROGRESS_CHARS = 2000
SHOWN = 80  # bytes of a bad line in the error text
REDACTED = 8192  # bytes of it that are searched for secrets

_BLANK = b" \t\r\n\xef\xbb\xbf"  # and a byte order mark

_log = logging.getLogger(__name__)


class CommandOptions(Options, frozen=True, kw_only=True):
    """Options of the backend `command` in autopoll.toml."""

    command: Annotated[list[str], msgspec.Meta(min_length=1)]
    env: tuple[str, ...] = ()
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    ready: bool = False
    ready_timeout: Duration = Duration(30)


class ProgramLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line from the program; unknown keys are ignored."""

    id: int | None = None
    answer: str | None = None
    sources: list[str] = []
    usage: Usage | None = None
    error: str | None = None
    retriable: bool = False
    retry_after_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    unavailable: Refusal | None = None
    resume_after_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    progress: str | None = None
    piece: str | None = None
    ready: bool = False


class Command:
    """A kept program; when it dies or breaks the protocol, this instance is Broken."""

    def __init__(self, setting: Setting) -> None:
        self._options = options = read_options(setting, CommandOptions)
        self._context = Context(setting)
        self._folder = setting.root
        if any("\0" in part for part in options.command):
            raise ConfigError(f"shards.{setting.shard}.options.command holds a NUL", "Take it out.")
        self._command = [_program(options.command[0], setting), *options.command[1:]]
        program, *words = self._command
        program_safety.require_safe(
            setting.root,
            f"shards.{setting.shard}.options.command",
            [program, *program_safety.scripts_among(words, setting.root, program)],
        )
        self._environment = child_environment(os.environ, setting.shard, options.env)
        self.concurrency = options.concurrency
        self.strays = 0  # lines about questions that are settled or were never asked
        self._child: Child | None = None
        self._news = asyncio.Event()  # it is ready, or it ended
        self._ids = count(1)
        self._asked: dict[int, _PendingQuestion] = {}

    async def start(self) -> None:
        """Start the program; with the option `ready`, wait until it reports ready."""
        if self._child is not None:
            return
        self._news.clear()
        self._child = child = Child(
            self._command,
            folder=self._folder,
            environment=self._environment,
            on_line=self._take,
            on_end=self._fail_all,
        )
        limit = self._options.ready_timeout if self._options.ready else FIRST_LOOK_S
        try:
            async with asyncio.timeout(limit):
                await self._news.wait()
        except TimeoutError:
            if self._options.ready:
                child.end(f"did not say that it is ready within {limit:g} s")
        await self.probe()

    async def answer(self, request: Request, report: Report) -> Reply:
        """Ask the program; raise the failure it reports, or Broken with the way it ended."""
        context_file = None
        if request.context_file is not None:
            source = await asyncio.to_thread(self._context.read, request.context_file)
            context_file = str(source.path)
        child = self._running()
        number = next(self._ids)
        question = {
            "id": number,
            "question": request.question,
            "context": [str(root) for root in self._context.roots],
            "context_file": context_file,
            "conversation": request.conversation,
            "timeout_ms": request.timeout_ms,
        }
        asked = self._asked[number] = _PendingQuestion(report)
        try:
            child.send(to_json(question).encode())  # a path may hold what is not UTF-8
            # Shielded, because a cancelled question is settled too, when the program drops it.
            return _reply(await asyncio.shield(asked.outcome))
        except asyncio.CancelledError:
            await self._cancel(child, number, asked)
            raise
        finally:
            asked.close()
            del self._asked[number]

    async def probe(self) -> None:
        """Raise Broken unless the program runs and its pipes are open."""
        self._running()

    async def stop(self) -> None:
        """End the program and all processes that it has started."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    def _running(self) -> Child:
        if self._child is None:
            raise Broken("the program is not started")
        if self._child.ended is not None:
            raise Broken(self._child.ended)
        return self._child

    async def _cancel(self, child: Child, number: int, asked: "_PendingQuestion") -> None:
        """Cancel the question; end a program that does not drop it, as it would block the next."""
        if asked.outcome.done():
            return
        child.send(msgspec.json.encode({"cancel": number}))
        try:
            await asyncio.wait([asked.outcome], timeout=CANCEL_S)
        finally:
            if not asked.outcome.done():
                child.end(f"did not let go of a cancelled question within {CANCEL_S:g} s")

    # --- called by the child

    def _take(self, line: bytes) -> None:
        """Act on a line; one that cannot be understood ends the program."""
        if not line.strip(_BLANK):
            return
        try:
            message = _read(line)
        except msgspec.ValidationError as error:
            self._refuse(f"sent JSON of the wrong form ({error})", line)
        except (ValueError, RecursionError):
            self._refuse("sent a line that is not JSON", line)
        else:
            if message.ready:
                self._news.set()
            elif message.id is None:
                self._refuse("sent a line without an id", line)
            elif (asked := self._asked.get(message.id)) is None or asked.outcome.done():
                self._stray(message.id)
            elif message.answer is message.error is message.progress is message.piece is None:
                self._refuse("sent neither answer, error, progress nor piece", line)
            else:
                asked.take(message)

    def _refuse(self, what: str, line: bytes) -> None:
        if self._child is not None:
            more = f" and {len(line) - SHOWN:,} bytes more" if len(line) > SHOWN else ""
            # Before it is cut, because half a secret is not known for one.
            clean = redact(line[:REDACTED].decode("utf-8", "surrogateescape"))
            shown = clean.encode("utf-8", "surrogateescape")[:SHOWN]
            self._child.end(f"{what}: {shown!r}{more}")

    def _stray(self, number: int) -> None:
        self.strays += 1
        if self.strays == 1:  # the first one only, because there may be millions
            _log.warning("dropped a line about question %d, which is not open", number)

    def _fail_all(self, why: str) -> None:
        self._news.set()
        for asked in self._asked.values():
            if not asked.outcome.done():
                asked.outcome.set_result(Broken(why))


class _PendingQuestion:
    """A question that the program works on."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._latest: str | None = None
        self.outcome: asyncio.Future[ProgramLine | Broken] = self._loop.create_future()

    def take(self, message: ProgramLine) -> None:
        """Pass on progress, and settle the question with an answer or an error."""
        if message.piece is not None:
            self._report.piece(message.piece)
        if message.progress is not None:
            self.progress(message.progress)
        if message.answer is not None or message.error is not None:
            self.outcome.set_result(message)

    def progress(self, text: str) -> None:
        """Report at once, but at most ten times a second, and then only the latest."""
        self._latest = text[:PROGRESS_CHARS]
        if self._timer is None:
            self._flush()

    def close(self) -> None:
        """Report nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        if self._latest is not None:
            self._report(self._latest)
            self._latest = None
            self._timer = self._loop.call_later(PROGRESS_S, self._flush)


def _read(line: bytes) -> ProgramLine:
    """Decode a line; raise ValidationError, ValueError when it is not JSON, or RecursionError."""
    try:
        return msgspec.json.decode(line, type=ProgramLine)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's own reader takes half a surrogate pair, as json.dumps writes it, and a byte order
        # mark; the worker makes valid text of the one, and the other means nothing.
        return msgspec.convert(json.loads(line), ProgramLine)


def _reply(outcome: ProgramLine | Broken) -> Reply:
    """Return the program's answer, or raise its failure."""
    if isinstance(outcome, Broken):
        raise outcome
    if outcome.error is not None:
        if outcome.unavailable is not None:
            raise Unavailable(
                outcome.error,
                kind=outcome.unavailable,
                resume_after_ms=outcome.resume_after_ms,
                usage=outcome.usage,
            )
        if outcome.retriable:
            wait = outcome.retry_after_ms
            raise Retriable(outcome.error, retry_after_ms=wait, usage=outcome.usage)
        raise Permanent(outcome.error, usage=outcome.usage)
    if not outcome.answer:
        raise Retriable("the program gave an empty answer", usage=outcome.usage)
    return Reply(answer=Answer(text=outcome.answer, sources=outcome.sources), usage=outcome.usage)


def _program(name: str, setting: Setting) -> str:
    """Return the path of an executable: from the home when it has a slash, else on PATH."""
    path = str(option_path(setting, "command", name)) if "/" in name else name
    found = shutil.which(path)
    if found is None:
        raise ConfigError(
            f"shards.{setting.shard}.options.command: there is no program {name!r}",
            "Give the path of an executable file, meant from the home, or a name on PATH.",
        )
    return found
