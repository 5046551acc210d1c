"""The Messages API in form: errors, events, models, counting."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from mock_api.answers import answer_to, pieces_of, tokens
from mock_api.moods import Moods

MODEL = "claude-mock-1"
_NUMBERS = count(1)  # clients take messages of one id for one message
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    529: "overloaded_error",
}


def system_of(body: dict[str, Any]) -> str:
    return _text(body.get("system", ""))


def user_of(body: dict[str, Any]) -> str:
    """Return the last message of the user."""
    said = [each for each in body.get("messages", []) if each.get("role") == "user"]
    return _text(said[-1]["content"]) if said else ""


def is_result(body: dict[str, Any]) -> bool:
    """Tell whether what was said last is what a tool gave back."""
    said = [each for each in body.get("messages", []) if each.get("role") == "user"]
    content = said[-1]["content"] if said else ""
    return not isinstance(content, str) and any(each["type"] == "tool_result" for each in content)


def error(status: int, moods: Moods, key: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body and the headers of a refusal."""
    words = f"mock error {status}"
    if "credit" in moods:
        words = "Your credit balance is too low to access the API."
    elif "toolong" in moods:
        words = "prompt is too long: 210000 tokens > 200000 maximum"
    elif status == 401:
        words = "invalid x-api-key"
    headers = {}
    if "429" in moods and moods.values["429"]:
        headers["retry-after"] = moods.values["429"]
    if "reset-in" in moods:
        moment = datetime.now(UTC) + timedelta(seconds=moods.number("reset-in"))
        headers["anthropic-ratelimit-requests-remaining"] = "0"
        headers["anthropic-ratelimit-requests-reset"] = moment.isoformat()
    kind = KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": words}}, headers


def usage(body: dict[str, Any], seen: set[str], output: int) -> dict[str, int]:
    """Return what the question cost; a system block marked for the cache is read from it later."""
    system, user = system_of(body), user_of(body)
    marked = "cache_control" in json.dumps(body.get("system", ""))
    cached = marked and system in seen
    if marked:
        seen.add(system)
    return {
        "input_tokens": tokens(user) + (0 if marked else tokens(system)),
        "cache_creation_input_tokens": tokens(system) if marked and not cached else 0,
        "cache_read_input_tokens": tokens(system) if cached else 0,
        "output_tokens": output,
    }


def text_of(body: dict[str, Any], moods: Moods) -> str:
    return "" if "empty" in moods else answer_to(system_of(body), user_of(body))


def reply(body: dict[str, Any], moods: Moods, seen: set[str]) -> dict[str, Any]:
    """Return a whole message, for who does not stream."""
    text = text_of(body, moods)
    return {
        **_message(body, usage(body, seen, tokens(text))),
        "content": [{"type": "text", "text": text}],
        "stop_reason": _stop_reason(moods),
    }


def events(body: dict[str, Any], moods: Moods, seen: set[str]) -> Iterator[bytes]:
    """Yield the events of a stream that goes well, one chunk each."""
    text = text_of(body, moods)
    spent = usage(body, seen, 1)
    yield _event("message_start", message=_message(body, spent))
    if "tool" in moods and not is_result(body):
        yield from _tool_use(moods.values["tool"], user_of(body))
        return
    for _ in range(int(moods.number("ping"))):
        yield _event("ping")
    index = 0
    if "thinking" in moods:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield _event("content_block_start", index=0, content_block=block)
        delta = {"type": "thinking_delta", "thinking": "Hm, a secret thought."}
        yield _event("content_block_delta", index=0, delta=delta)
        yield _event("content_block_stop", index=0)
        index = 1
    yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
    yield _event("ping")
    for piece in pieces_of(text) if text else ():
        yield delta_event(piece, index)
    yield _event("content_block_stop", index=index)
    end = {"stop_reason": _stop_reason(moods), "stop_sequence": None}
    yield _event("message_delta", delta=end, usage={"output_tokens": tokens(text)})
    yield _event("message_stop")


def delta_event(piece: str, index: int = 0) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})


def is_piece(event: bytes) -> bool:
    return b'"text_delta"' in event


def error_event(kind: str) -> bytes:
    return _event("error", error={"type": kind or "overloaded_error", "message": "mock error"})


def model(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "lifecycle": "active",
    }


def _tool_use(name: str, question: str) -> Iterator[bytes]:
    given = question[question.index("{") : question.rindex("}") + 1]
    block = {"type": "tool_use", "id": f"toolu_{next(_NUMBERS)}", "name": name, "input": {}}
    yield _event("content_block_start", index=0, content_block=block)
    delta = {"type": "input_json_delta", "partial_json": given}
    yield _event("content_block_delta", index=0, delta=delta)
    yield _event("content_block_stop", index=0)
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    yield _event("message_delta", delta=end, usage={"output_tokens": 9})
    yield _event("message_stop")


def _stop_reason(moods: Moods) -> str:
    return "refusal" if "refusal" in moods else "max_tokens" if "max" in moods else "end_turn"


def _message(body: dict[str, Any], spent: dict[str, int]) -> dict[str, Any]:
    return {
        "id": f"msg_{next(_NUMBERS)}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", MODEL),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": spent,
    }


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content if block.get("type") == "text")
