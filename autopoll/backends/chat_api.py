"""The chat completions API through OpenAI's library, whose retries are off: trying again is ours.

Those who imitate the API differ in what they leave out: usage, the window, a model to look up, or
even the list of models. Whatever is missing is missing, and no error.
"""

from collections.abc import AsyncGenerator
from typing import Any

import openai

from autopoll.backends.contract import Permanent
from autopoll.backends.http_service import HttpService, http_client
from autopoll.backends.keys import Login
from autopoll.backends.openai import OpenAiOptions
from autopoll.backends.prompt import Turn
from autopoll.backends.speech import End, Ended, Event, Piece
from autopoll.backends.usage import spent
from autopoll.request import Usage

# Where the services tell the model's window: vLLM, OpenRouter, LM Studio and others; llama.cpp has
# it under `meta`. OpenAI and Ollama do not tell.
_WINDOWS = ("max_model_len", "context_length", "max_context_length", "context_window")
_WINDOWS_BELOW = ("n_ctx", "n_ctx_train")
_ENDS: dict[str, End] = {"length": "cut", "content_filter": "refused"}


class Chat(HttpService):
    """One client; the shard's files are the system message, which services cache by themselves."""

    def __init__(self, options: OpenAiOptions, login: Login) -> None:
        self._options = options
        self._own = login.base_url is not None
        self._chat = openai.AsyncOpenAI(
            api_key=login.key.value,
            base_url=login.base_url,
            max_retries=0,
            http_client=http_client(
                openai.DefaultAsyncHttpxClient, options.stall_timeout, options.concurrency
            ),
        )
        super().__init__(openai, openai.OpenAIError, self._chat, login)
        # Named here, because the library imports each part, a second of work, when it is named.
        self._completions, self._models = self._chat.chat.completions, self._chat.models

    async def check(self) -> int | None:
        """Look for the model in the list: a wrong key shows, and nothing is to be paid.

        Raises Permanent when the list does not hold it; a service without a list passes.
        """
        try:
            models = [model async for model in self._models.list()]
        except (openai.NotFoundError, openai.PermissionDeniedError):
            return None  # there is no list, or not for this key, which may chat all the same
        wanted = self._options.model
        found = [model for model in models if model.id in (wanted, f"{wanted}:latest")]
        if found:
            return _window(found[0].model_dump())
        if models and not self._own:
            raise Permanent(f"the service knows no model {wanted!r}", "Check `model`.")
        return None

    async def stream(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """Ask, and yield what comes."""
        stream = await self._completions.create(
            model=self._options.model,
            messages=[
                {"role": "system", "content": turn.system},
                {"role": "user", "content": turn.user},
            ],
            stream=True,
            extra_body=self._more(),
        )
        refusal = ""
        async with stream:
            async for chunk in stream:
                if chunk.usage is not None:
                    yield _usage(chunk.usage)
                for choice in chunk.choices or []:
                    text = choice.delta.content if choice.delta else None
                    yield Piece(text if isinstance(text, str) else "")
                    refusal += (choice.delta.refusal or "") if choice.delta else ""
                    if choice.finish_reason:
                        how = "refused" if refusal else _ENDS.get(choice.finish_reason, "done")
                        yield Ended(how, refusal or _why(choice.finish_reason))

    async def count(self, turn: Turn) -> int | None:
        """Return None: this API does not count."""
        return None

    def _more(self) -> dict[str, Any]:
        """Return the fields that depend on options; what stands in `body` has the last word."""
        more: dict[str, Any] = {}
        if self._options.max_tokens is not None:
            # OpenAI's reasoning models refuse the old name, and others do not know the new one.
            more["max_tokens" if self._own else "max_completion_tokens"] = self._options.max_tokens
        if self._options.stream_usage:
            more["stream_options"] = {"include_usage": True}
        return {**more, **self._options.body}


def _usage(usage: Any) -> Usage:
    details = getattr(usage, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None) or getattr(
        usage, "prompt_cache_hit_tokens", None
    )
    return spent(
        prompt=usage.prompt_tokens,
        cached=cached,
        output=usage.completion_tokens,
        dollars=getattr(usage, "cost", None),
    )


def _why(reason: str) -> str:
    return "its content filter stopped it" if reason == "content_filter" else ""


def _window(model: dict[str, Any]) -> int | None:
    """Return the window that a service tells with a model, in tokens."""
    meta = model.get("meta")
    below = meta if isinstance(meta, dict) else {}
    told = [model.get(name) for name in _WINDOWS] + [below.get(name) for name in _WINDOWS_BELOW]
    return next((each for each in told if isinstance(each, int) and each >= 1000), None)
