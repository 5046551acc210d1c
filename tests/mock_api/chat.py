"""The chat completions API in form, as OpenAI and those who imitate it speak it."""

import json
from collections.abc import Iterator
from typing import Any

from mock_api.answers import answer_to, pieces_of, tokens
from mock_api.moods import Moods

KINDS = {
    401: ("invalid_request_error", "invalid_api_key"),
    429: ("requests", "rate_limit_exceeded"),
}


def system_of(body: dict[str, Any]) -> str:
    return _said(body, "system", "developer")


def user_of(body: dict[str, Any]) -> str:
    return _said(body, "user")


def error(status: int, moods: Moods, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body and the headers of a refusal."""
    kind, code = KINDS.get(status, ("server_error" if status >= 500 else "invalid_request", None))
    words = f"mock error {status}"
    if "credit" in moods:
        kind = code = "insufficient_quota"
        words = "You exceeded your current quota, please check your plan and billing details."
    elif "toolong" in moods:
        code = "context_length_exceeded"
        words = "This model's maximum context length is 128000 tokens. Your messages have 200000."
    elif status == 401:
        words = f"Incorrect API key provided: {key}."
    headers = {}
    if "429" in moods and moods.values["429"]:
        headers["retry-after"] = moods.values["429"]
    if "reset-in" in moods:
        headers["x-ratelimit-remaining-requests"] = "0"
        headers["x-ratelimit-reset-requests"] = f"{moods.number('reset-in'):g}s"
    return {"error": {"message": words, "type": kind, "param": None, "code": code}}, headers


def usage(body: dict[str, Any], seen: set[str], output: int) -> dict[str, Any]:
    """Return what the question cost; cached tokens are counted among those of the prompt."""
    system = system_of(body)
    cached = tokens(system) if system in seen else 0
    seen.add(system)
    prompt = tokens(system) + tokens(user_of(body))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def text_of(body: dict[str, Any], moods: Moods) -> str:
    return (
        ""
        if {"empty", "refusal"} & moods.values.keys()
        else answer_to(system_of(body), user_of(body))
    )


def reply(body: dict[str, Any], moods: Moods, seen: set[str]) -> dict[str, Any]:
    """Return a whole completion, for who does not stream."""
    text = text_of(body, moods)
    message = {"role": "assistant", "content": text}
    return {
        **_head(body, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(moods)}],
        "usage": usage(body, seen, tokens(text)),
    }


def events(body: dict[str, Any], moods: Moods, seen: set[str]) -> Iterator[bytes]:
    """Yield the events of a stream that goes well, one chunk each."""
    text = text_of(body, moods)
    for _ in range(int(moods.number("ping"))):
        yield b": keep-alive\n\n"
    yield _chunk(body, {"role": "assistant", "content": ""})
    if "thinking" in moods:
        yield _chunk(body, {"reasoning_content": "Hm, a secret thought."})
    if "refusal" in moods:
        yield _chunk(body, {"refusal": "I cannot help with that."})
    for piece in pieces_of(text) if text else ():
        yield _chunk(body, {"content": piece})
    yield _chunk(body, {}, finish=_finish_reason(moods))
    wanted = (body.get("stream_options") or {}).get("include_usage")
    if wanted and "quiet" not in moods:
        spent = {**_head(body), "choices": [], "usage": usage(body, seen, tokens(text))}
        yield _data(json.dumps(spent))
    if "nodone" not in moods:
        yield _data("[DONE]")


def delta_event(piece: str, index: int = 0) -> bytes:
    return _chunk({}, {"content": piece})


def is_piece(event: bytes) -> bool:
    return b'"delta": {"content"' in event


def error_event(kind: str) -> bytes:
    broken = {"message": "mock error", "type": kind or "server_error", "code": kind or None}
    return _data(json.dumps({"error": broken}))


def model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1767225600, "owned_by": "mock"}


def _finish_reason(moods: Moods) -> str:
    return "content_filter" if "filter" in moods else "length" if "max" in moods else "stop"


def _head(body: dict[str, Any], kind: str = "chat.completion.chunk") -> dict[str, Any]:
    model = body.get("model", "mock")
    return {"id": "chatcmpl-mock", "object": kind, "created": 1767225600, "model": model}


def _chunk(body: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data(json.dumps({**_head(body), "choices": [choice]}))


def _data(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


def _said(body: dict[str, Any], *roles: str) -> str:
    said = [each["content"] for each in body.get("messages", []) if each.get("role") in roles]
    last = said[-1] if said else ""
    return last if isinstance(last, str) else "\n".join(part.get("text", "") for part in last)
