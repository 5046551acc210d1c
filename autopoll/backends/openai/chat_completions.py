"""The chat completions API through OpenAI's library, whose retries are off: trying again is ours.

Services that imitate the API differ in what they leave out: usage, the window, a model to look up,
or even the list of models. Whatever is missing is missing, and no error.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import openai

from autopoll.backends.context.prompt import Turn
from autopoll.backends.contract import Permanent
from autopoll.backends.http.error_bodies import ErrorBody, read_error
from autopoll.backends.http.finish_reasons import ended
from autopoll.backends.http.stream import Ended, Event, Piece, Thought
from autopoll.backends.http.vendor_library import DONE, HttpService, http_client
from autopoll.backends.keys import Login
from autopoll.backends.openai.openai_options import OpenAiOptions
from autopoll.backends.usage import spent
from autopoll.request import Usage

# Where services report the model's window: vLLM, OpenRouter, LM Studio and others; llama.cpp has
# it under `meta`. OpenAI and Ollama do not report it.
_WINDOWS = ("max_model_len", "context_length", "max_context_length", "context_window")
_WINDOWS_BELOW = ("n_ctx", "n_ctx_train")
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking")


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
        asking = self._completions.with_streaming_response.create(
            model=self._options.model,
            messages=[
                {"role": "system", "content": turn.system},
                {"role": "user", "content": turn.user},
            ],
            stream=True,
            extra_body=self._more(),
        )
        events = _ChatEvents()
        async with asking as response:
            async for chunk in self.objects(response.http_response):
                if chunk is DONE:
                    yield events.over()
                    continue
                for event in [*events.take(chunk or {})] or [Piece("")]:  # only a role, or the like
                    yield event
                if events.error is not None:
                    raise self.refused(events.error)

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


class _ChatEvents:
    """Collects the chunks of one answer."""

    def __init__(self) -> None:
        self.error: ErrorBody | None = None  # within the answer
        self._refusal = ""
        self._has_text = False
        self._tools = False  # a call of one, though we offer none
        self._end: Ended | None = None

    def take(self, chunk: dict[str, Any]) -> Iterator[Event]:
        """Yield what a chunk holds; any field may be missing or have another form."""
        usage = chunk.get("usage") or _table(chunk.get("x_groq")).get("usage")  # Groq's own place
        if isinstance(usage, dict):
            yield _usage(usage)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            # There is only one answer; of several that `body` asks for, the first.
            if isinstance(choice, dict) and str(choice.get("index") or 0) == "0":
                yield from self._choice(choice)

    def over(self) -> Ended:
        """Return how the answer ended; called at the end of the stream."""
        return self._end or self._judged(Ended("done"))

    def _choice(self, choice: dict[str, Any]) -> Iterator[Event]:
        message = _table(choice.get("delta"))
        if not message and not self._has_text:  # some repeat the whole message beside the pieces
            message = _table(choice.get("message"))
        text = _text(message.get("content"))
        if any(message.get(name) for name in _THOUGHTS):
            yield Thought()
        if text:
            self._has_text = True
            yield Piece(text)
        self._tools = self._tools or bool(message.get("tool_calls") or message.get("function_call"))
        self._refusal += _text(message.get("refusal"))
        self.error = read_error({"error": choice.get("error")})
        if end := ended(choice.get("finish_reason")):
            self._end = self._judged(end)
            yield self._end

    def _judged(self, end: Ended) -> Ended:
        if self._refusal or end.how == "refused":
            return Ended("refused", self._refusal or "its content filter stopped it")
        if end.how in ("done", "tools"):
            called = self._tools or (end.how == "tools" and not self._has_text)
            return Ended("tools" if called else "done")
        return end


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(content: Any) -> str:
    """Return the text of a content: a string, or a list of parts of which some may be thoughts."""
    if isinstance(content, list):
        return "".join(
            _text(part.get("text") if isinstance(part, dict) else part)
            for part in content
            if not isinstance(part, dict) or part.get("type", "text") in ("text", "output_text")
        )
    return content if isinstance(content, str) else ""


def _usage(usage: dict[str, Any]) -> Usage:
    details = _table(usage.get("prompt_tokens_details"))
    return spent(
        prompt=usage.get("prompt_tokens"),
        cached=details.get("cached_tokens") or usage.get("prompt_cache_hit_tokens"),
        output=usage.get("completion_tokens"),
        dollars=usage.get("cost"),
    )


def _window(model: dict[str, Any]) -> int | None:
    """Return the window that a service reports with a model, in tokens."""
    meta = model.get("meta")
    below = meta if isinstance(meta, dict) else {}
    windows = [model.get(name) for name in _WINDOWS] + [below.get(name) for name in _WINDOWS_BELOW]
    return next((each for each in windows if isinstance(each, int) and each >= 1000), None)
