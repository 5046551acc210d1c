"""A model behind an HTTP API: one kept client, deadlines of our own, pieces as they come.

What differs from library to library, its events and its errors, is a `Service` (see service.py);
what the model sends is collected in a `StreamedAnswer`. A service that saw an error is used no
more: the next question gets a new one.
"""

import asyncio
import json
import logging
import os
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any

import msgspec

from autopoll.backends.context.context_files import Context
from autopoll.backends.context.prompt import Measure, Prompt, Turn
from autopoll.backends.context.remarks import NOTHING, Remarks
from autopoll.backends.contract import (
    Broken,
    Permanent,
    Report,
    Retriable,
    Setting,
    Unanswered,
    Unavailable,
)
from autopoll.backends.http.failures import unreachable
from autopoll.backends.http.network import check_address, check_network
from autopoll.backends.http.reasoning import may_omit_the_first_tag
from autopoll.backends.http.service import Service, SharedService
from autopoll.backends.http.stream import StreamedAnswer
from autopoll.backends.keys import NO_KEY, Login, read_key
from autopoll.backends.options import Options
from autopoll.clock import Duration
from autopoll.errors import ConfigError
from autopoll.request import Reply, Request

CHECK_S = 20.0  # for the free call at the start

_log = logging.getLogger(__name__)


class RemoteOptions(Options, frozen=True, kw_only=True):
    """Options in autopoll.toml of every backend with a model behind an API."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    context_tokens: Annotated[int, msgspec.Meta(ge=500)] | None = None
    window: Annotated[int, msgspec.Meta(ge=1000)] | None = None
    instructions: str = ""
    key_env: Annotated[str, msgspec.Meta(min_length=1)]
    key_file: str | None = None
    base_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/\s]")] | None = None
    body: dict[str, Any] = msgspec.field(default_factory=dict)  # added to each request as it is
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    stall_timeout: Duration = Duration(60)


class Remote(ABC):
    """The backend; a subclass has its own options and knows how to connect."""

    def __init__(
        self, setting: Setting, options: RemoteOptions, *, window: int, address: str
    ) -> None:
        """Check the options; raise ConfigError.

        `window` is the model's, in tokens, unless the service reports another; `address` is
        the variable that the library looks at when there is no `base_url`.
        """
        self.concurrency = options.concurrency
        self.dropped = 0  # citations of what is not there
        self._options = options
        self._setting = setting
        self._shard = setting.shard
        self._address = address
        self._window = options.window or window
        self._context = Context(setting)
        self._prompt: Prompt | None = None
        self._shared: SharedService | None = None
        self._limits: set[asyncio.Timeout] = set()  # of the questions under way
        self._hold = may_omit_the_first_tag(options.model)  # pieces that may be thoughts
        self._bare = False  # its thoughts come without their first tag
        if (options.context_tokens or 0) + (options.max_tokens or 0) >= self._window and (
            options.window is not None
        ):
            raise ConfigError(
                f"shards.{setting.shard}.options: context_tokens and max_tokens do not fit into "
                f"the window of {self._window:,} tokens",
                "Lower them; a question must fit in as well.",
            )
        read_key(setting, options.key_file, options.key_env)
        self._check_surroundings()

    @abstractmethod
    def connect(self, login: Login) -> Service:
        """Return a new client; called in a thread first, because it imports a library."""

    async def start(self) -> None:
        """Read the context, and make sure by a call without cost that the service lets us in."""
        if self._prompt is not None:
            return
        async with AsyncExitStack() as opened:
            shared = SharedService(await asyncio.to_thread(self._connected))
            opened.push_async_callback(shared.close)
            window = await self._check(shared.service)
            prompt = Prompt(
                self._context,
                self._shard,
                window=self._options.window or window or self._window,
                context_tokens=self._options.context_tokens,
                instructions=self._options.instructions,
            )
            await prompt.look()
            opened.pop_all()
        self._prompt, self._shared = prompt, shared

    async def answer(self, request: Request, report: Report) -> Reply:
        """Ask the model and pass its words on as they come."""
        turn = await self._started().ask(request.question, request.context_file)
        answer = StreamedAnswer(report, hold=self._hold)
        shared = self._open_shared()
        try:
            await self._receive(shared, turn, answer)
        except Unanswered as error:
            error.usage = answer.usage
            raise
        finally:
            await shared.let_go()
        try:
            reply = answer.reply(turn, self._options.max_tokens)
        finally:
            self._learn(answer)
        self._count_dropped(answer.dropped)
        return reply

    async def probe(self) -> None:
        """Raise Broken unless started; no request is sent, for that might cost or take long."""
        self._started()

    @property
    def remarks(self) -> Remarks:
        """Remarks on single files of the context."""
        return self._prompt.remarks if self._prompt is not None else NOTHING

    async def measure(self) -> Measure:
        """Return how large the context is, counted by the service where it counts for nothing."""
        prompt = self._started()
        await prompt.look()
        size = prompt.size()
        if not size.whole:
            return size
        shared = self._open_shared()
        try:
            turn = await prompt.ask("?")
            async with asyncio.timeout(CHECK_S):
                tokens = await shared.service.count(turn)
        except TimeoutError:
            tokens = None
        except shared.service.errors as error:
            self._retire(shared)
            _log.info("shard %s: %s", self._shard, shared.service.failure(error))
            tokens = None
        finally:
            await shared.let_go()
        return size if tokens is None else msgspec.structs.replace(size, tokens=tokens, exact=True)

    async def stop(self) -> None:
        """End what is under way and close the connections."""
        prompt, self._prompt = self._prompt, None
        shared, self._shared = self._shared, None
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
        if prompt is not None:
            prompt.close()
        if shared is not None:
            await shared.close()

    # --- the service

    def _started(self) -> Prompt:
        if self._prompt is None:
            raise Broken(f"the backend of shard {self._shard} is not started")
        return self._prompt

    async def _check(self, service: Service) -> int | None:
        """Return the model's window, if it is reported; raise what would fail every question."""
        try:
            async with asyncio.timeout(CHECK_S):
                return await service.check()
        except TimeoutError:
            failure: Unanswered = unreachable(f"no answer within {CHECK_S:g} s")
        except Permanent as error:
            failure = error
        except service.errors as error:
            failure = service.failure(error)
        if isinstance(failure, Permanent):
            raise Broken(failure.what, failure.mend)
        if isinstance(failure, Unavailable) and failure.kind in ("credentials", "overloaded"):
            raise failure
        _log.info("shard %s: the first call: %s", self._shard, failure)
        return None

    def _check_surroundings(self) -> None:
        """Raise ConfigError for what would only fail, without its name, when it is used."""
        check_network(os.environ)
        where = f"shards.{self._shard}.options"
        address = os.environ.get(self._address)
        if self._options.base_url:
            check_address(self._options.base_url, f"{where}.base_url")
        elif address:
            check_address(address, self._address)
        try:
            json.dumps(self._options.body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}.body holds what JSON cannot: {error}",
                "Write numbers, strings, lists and tables; a date as a string.",
            ) from error

    def _connected(self) -> Service:
        """Return a new client; raise Unavailable when there is no key, or none any more."""
        options = self._options
        try:
            key = read_key(self._setting, options.key_file, options.key_env)
        except ConfigError as error:
            raise Unavailable(error.what, error.mend, kind="credentials") from error
        base_url = options.base_url or os.environ.get(self._address) or None
        if key is None and base_url is None:
            raise Unavailable(
                f"there is no key: {options.key_env} is not set",
                "Set it where `autopoll up` is run, or name a file of it with `key_file`.",
                kind="credentials",
            )
        return self.connect(Login(key or NO_KEY, base_url))

    def _open_shared(self) -> SharedService:
        self._started()
        if self._shared is None:
            self._shared = SharedService(self._connected())
        self._shared.users += 1
        return self._shared

    def _retire(self, shared: SharedService) -> None:
        shared.spoilt = True
        if self._shared is shared:
            self._shared = None

    async def _receive(self, shared: SharedService, turn: Turn, answer: StreamedAnswer) -> None:
        """Read the stream; a pause of `stall_timeout`, also before the first event, ends it."""
        loop, patience = asyncio.get_running_loop(), self._options.stall_timeout
        limit = asyncio.timeout(patience)
        try:
            async with limit, aclosing(shared.service.stream(turn)) as events:
                self._limits.add(limit)
                async for event in events:
                    answer.take(event)
                    if self._prompt is not None:
                        limit.reschedule(loop.time() + patience)
            if answer.end.how == "":
                raise Retriable(f"the stream ended in the middle, {answer.so_far}")
        except TimeoutError as error:
            self._retire(shared)
            silence = f"the service fell silent for {patience:g} s, {answer.so_far}"
            raise self._unless_stopped(Retriable(silence)) from error
        except Unanswered:
            self._retire(shared)
            raise
        except shared.service.errors as error:
            self._retire(shared)
            raise self._unless_stopped(shared.service.failure(error)) from error
        finally:
            self._limits.discard(limit)

    def _unless_stopped(self, failure: Unanswered) -> Unanswered:
        stopped = self._prompt is None
        return Broken(f"the backend of shard {self._shard} was stopped") if stopped else failure

    def _learn(self, answer: StreamedAnswer) -> None:
        """Know for the next question whether thoughts may come without their first tag."""
        self._bare = self._bare or answer.bare
        self._hold = self._bare

    def _count_dropped(self, number: int) -> None:
        if number:
            self.dropped += number
            _log.info("shard %s: dropped %d citations that do not hold", self._shard, number)
