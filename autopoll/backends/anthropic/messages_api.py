"""The Messages API through Anthropic's library, whose retries are off: trying again is ours."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anthropic
from anthropic.types import TextBlockParam

from autopoll.backends.anthropic.anthropic_options import AnthropicOptions
from autopoll.backends.context.prompt import Turn
from autopoll.backends.http.finish_reasons import ended
from autopoll.backends.http.stream import Ended, Event, Piece, Thought
from autopoll.backends.http.vendor_library import HttpService, http_client
from autopoll.backends.keys import Login
from autopoll.backends.usage import count, spent
from autopoll.request import Usage


class MessagesService(HttpService):
    """One client; the shard's files are a system block that the service keeps in its cache."""

    def __init__(self, options: AnthropicOptions, login: Login) -> None:
        self._options = options
        self._own = login.base_url is not None
        client = anthropic.AsyncAnthropic(
            api_key=login.key.value,
            base_url=login.base_url,
            max_retries=0,
            http_client=http_client(
                anthropic.DefaultAsyncHttpxClient, options.stall_timeout, options.concurrency
            ),
        )
        super().__init__(anthropic, anthropic.AnthropicError, client, login)
        # Named here, because the library imports each part, a second of work, when it is named.
        self._messages, self._models = client.messages, client.models

    async def check(self) -> int | None:
        """Look the model up: a wrong key and a wrong name show, and nothing is to be paid."""
        try:
            found = await self._models.retrieve(self._options.model)
        except anthropic.PermissionDeniedError:
            return None  # a key that may not look around may ask all the same
        except anthropic.NotFoundError:
            if self._own:  # other services with this API often have no list of models
                return None
            raise
        return found.max_input_tokens

    async def stream(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """Ask, and yield what comes."""
        asking = self._messages.with_streaming_response.create(
            model=self._options.model,
            max_tokens=self._options.max_tokens,
            system=_system(turn),
            messages=[{"role": "user", "content": turn.user}],
            stream=True,
            extra_body=self._options.body or None,
        )
        events = _MessageEvents()
        async with asking as response:
            async for found in self.objects(response.http_response):
                for event in [*events.take(found or {})] or [Piece("")]:  # a ping, or the like
                    yield event

    async def count(self, turn: Turn) -> int | None:
        """Return how many tokens the turn has; counting costs nothing."""
        counted = await self._messages.count_tokens(
            model=self._options.model,
            system=_system(turn),
            messages=[{"role": "user", "content": turn.user}],
        )
        return counted.input_tokens


def _system(turn: Turn) -> list[TextBlockParam]:
    return [{"type": "text", "text": turn.system, "cache_control": {"type": "ephemeral"}}]


class _MessageEvents:
    """Collects the events of one answer."""

    def __init__(self) -> None:
        self._cost: dict[str, Any] = {}  # later events hold only what has changed
        self._tool = False  # a block that calls one, though we offer none
        self._ended = False

    def take(self, event: dict[str, Any]) -> Iterator[Event]:
        """Yield what an event holds; any field may be missing or have another form."""
        match event:
            case {"type": "message", "content": list(blocks)}:  # whole, in place of a stream
                yield self._usage(event.get("usage"))
                for block in blocks:
                    yield from self._block(block)
                yield from self._end(event)
            case {"type": "message_start", "message": dict(message)}:
                yield self._usage(message.get("usage"))
            case {"type": "content_block_start", "content_block": block}:
                yield from self._block(block)
            case {"type": "content_block_delta", "delta": dict(delta)}:
                yield from self._delta(delta)
            case {"type": "message_delta", "delta": dict(delta)}:
                yield self._usage(event.get("usage"))
                yield from self._end(delta)
            case {"type": "message_stop"} if not self._ended:
                yield Ended("tools" if self._tool else "done")

    def _delta(self, delta: dict[str, Any]) -> Iterator[Event]:
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                yield Piece(text)
            case {"type": "thinking_delta"}:
                yield Thought()

    def _block(self, block: Any) -> Iterator[Event]:
        match block:
            case {"type": "text", "text": str(text)}:
                yield Piece(text)
            case {"type": "thinking" | "redacted_thinking"}:
                yield Thought()
            case {"type": "tool_use"}:
                self._tool = True

    def _end(self, fields: dict[str, Any]) -> Iterator[Event]:
        why = ""
        match fields.get("stop_details"):
            case {"explanation": str(words)} | {"category": str(words)}:
                why = words
        if end := ended(fields.get("stop_reason"), why):
            self._ended = True
            yield Ended("tools") if self._tool and end.how == "done" else end

    def _usage(self, usage: Any) -> Usage:
        """Return the cost so far; what is written to the cache is input like any other."""
        cost, new = self._cost, usage if isinstance(usage, dict) else {}
        for name in (
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "output_tokens",
        ):
            cost[name] = count(new[name]) if new.get(name) is not None else cost.get(name, 0)
        cached = cost["cache_read_input_tokens"]
        return spent(
            prompt=cost["input_tokens"] + cost["cache_creation_input_tokens"] + cached,
            cached=cached,
            output=cost["output_tokens"],
        )
