"""The Messages API through Anthropic's library, whose retries are off: trying again is ours."""

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
from anthropic.types import TextBlockParam
from anthropic.types.raw_message_delta_event import Delta

from autopoll.backends.anthropic import AnthropicOptions
from autopoll.backends.http_service import HttpService, http_client
from autopoll.backends.keys import Login
from autopoll.backends.prompt import Turn
from autopoll.backends.speech import End, Ended, Event, Piece
from autopoll.backends.usage import spent
from autopoll.request import Usage

_ENDS: dict[str, End] = {
    "refusal": "refused",
    "max_tokens": "cut",
    "model_context_window_exceeded": "full",
}


class Messages(HttpService):
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
            if self._own:  # who speaks the API otherwise often has no list of models
                return None
            raise
        return found.max_input_tokens

    async def stream(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """Ask, and yield what comes."""
        stream = await self._messages.create(
            model=self._options.model,
            max_tokens=self._options.max_tokens,
            system=_system(turn),
            messages=[{"role": "user", "content": turn.user}],
            stream=True,
            extra_body=self._options.body or None,
        )
        told: dict[str, Any] = {}  # of the cost; later events tell only what has changed
        async with stream:
            async for event in stream:
                match event.type:
                    case "message_start":
                        yield _usage(told, event.message.usage)
                    case "content_block_delta" if event.delta.type == "text_delta":
                        yield Piece(event.delta.text)
                    case "message_delta":
                        yield _usage(told, event.usage)
                        if event.delta.stop_reason is not None:
                            yield _end(event.delta)
                    case _:
                        yield Piece("")  # a thought, or the beginning of a block

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


def _usage(told: dict[str, Any], usage: Any) -> Usage:
    """Return the cost so far; what is written to the cache is input like any other."""
    for name in (
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    ):
        value = getattr(usage, name, None)
        told[name] = value if isinstance(value, int) else told.get(name, 0)
    cached = told["cache_read_input_tokens"]
    return spent(
        prompt=told["input_tokens"] + told["cache_creation_input_tokens"] + cached,
        cached=cached,
        output=told["output_tokens"],
    )


def _end(delta: Delta) -> Ended:
    details = delta.stop_details
    why = (details.explanation or details.category or "") if details else ""
    return Ended(_ENDS.get(delta.stop_reason or "", "done"), why)
