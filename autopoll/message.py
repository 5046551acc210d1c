"""What stands in the bridge's messages: questions in, answers out.

A question is plain text or a JSON object `{"type":"query","query_id":…,"question":…}`; an answer
takes the form of its question. Nothing here touches a database.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from autopoll.errors import BadQuery
from autopoll.text import storable, valid

NEVER_ANSWERED = frozenset({"response", "status", "heartbeat"})
_BOM = "\ufeff"
# In a message of which only the beginning was read.
_CUT_OFF = r'"(?:question|answer)"\s*:\s*"((?:[^"\\]|\\(?:u[0-9a-fA-F]{4}|[^u]))*)'
_RESPONSE = re.compile(
    r'\{"type":\s?"response",'
)  # as our own answers begin, where the question was JSON
_ECHOED_DEPTH = 20  # of a query_id: readers differ in how deep they go


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A question read out of a message; `canary` asks for a sign of life of the backend instead."""

    question: str
    query_id: Any = None
    context_file: str | None = None
    canary: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written back; `error` marks that `text` says why there is no answer."""

    text: str
    sources: list[str] = []  # "path:first-last"
    error: bool = False


class Content(msgspec.Struct, frozen=True):
    """What people read of a message: its type, and the question, the answer or the text in it."""

    type: str
    text: str
    sources: Sequence[str] = ()


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What autopoll's own senders put into a message's metadata; foreign keys are ignored."""

    type: str | None = None
    lane: str | None = None  # "own": independent of the conversation's order; "canary": nor counted
    canary: bool = False


def read_envelope(metadata: str | None) -> Envelope:
    """Return what the metadata holds for autopoll; what cannot be read holds nothing."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Envelope)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Envelope()


def answered_by(metadata: str | None) -> int | None:
    """Return the number of the question that a message answers; None when it answers none."""
    number = (_object(metadata or "") or {}).get("in_reply_to")
    return number if isinstance(number, int) else None


def is_answerable(text: str, envelope: Envelope) -> bool:
    """Tell whether a message wants an answer, so that two autopolls do not answer each other."""
    if envelope.type in NEVER_ANSWERED:
        return False
    fields = _object(text)
    return not (fields is not None and _scalar(fields.get("type")) in NEVER_ANSWERED)


def read_query(text: str, metadata: str | None = None) -> Query:
    """Return the question a message holds; raise BadQuery when it holds none that can be read."""
    canary = read_envelope(metadata).canary
    stripped = _body(text).rstrip()
    if not stripped:
        raise BadQuery("the message is empty", "Send a question as text or as JSON.")
    fields = _object(text)
    if fields is None:
        if stripped[0] == "{":
            raise BadQuery(_why_not_json(stripped), "Send valid JSON, or plain text.")
        if stripped[0] == "[" and _parses(stripped):
            raise BadQuery("the JSON is a list, not an object", 'Send {"question":"…"}.')
        return Query(question=storable(text), canary=canary)
    kind = fields.get("type", "query")
    if kind != "query":
        raise BadQuery(f"messages of type {_short(kind)} are not answered", 'Use "type":"query".')
    question, context_file = fields.get("question"), fields.get("context_file")
    if not isinstance(question, str):
        raise BadQuery(
            f"question must be a string, not {_short(question)}", 'Send {"question":"…"}.'
        )
    if not question.strip():
        raise BadQuery("the question is empty", 'Send {"question":"…"}.')
    if not isinstance(context_file, str | None):
        raise BadQuery(f"context_file must be a string, not {_short(context_file)}")
    return Query(
        question=storable(question),
        query_id=fields.get("query_id"),
        context_file=None if context_file is None else storable(context_file),
        canary=canary,
    )


def write_query(question: str, query_id: str, context_file: str | None = None) -> str:
    """Return the message text that asks a question."""
    fields = {"type": "query", "query_id": query_id, "question": valid(question)}
    if context_file is not None:
        fields["context_file"] = valid(context_file)
    return msgspec.json.format(msgspec.json.encode(fields), indent=0).decode()


def write_answer(
    question: str,
    answer: Answer,
    *,
    message_id: int,
    shard: str,
    attempt: int,
    seconds: float,
    usage: dict[str, Any] | None = None,
) -> tuple[str, str]:
    """Return (message text, metadata) that answer the message `question`, in the form it came."""
    fields = _object(question)
    status = "error" if answer.error else "answered"
    metadata = to_json(
        {
            "type": "response",
            "in_reply_to": message_id,
            "status": status,
            "sources": answer.sources,
            "shard": shard,
            "attempts": attempt,
            **({"usage": usage} if usage else {}),
        }
    )
    if fields is None and not _body(question).startswith("{"):
        sources = f"\n\nSources: {', '.join(answer.sources)}" if answer.sources else ""
        return answer.text + sources, metadata
    response = {
        "type": "response",
        "query_id": _echoed((fields or {}).get("query_id")),
        "status": status,
        "answer": answer.text,
        "sources": answer.sources,
        "shard_id": shard,
        "response_time_sec": round(seconds, 3),
        "attempts": attempt,
    }
    return to_json(response), metadata


def to_json(fields: dict[str, Any]) -> str:
    """Return JSON in ASCII: safe for a foreign reader whatever its encoding, surrogates and all."""
    try:
        encoded = msgspec.json.encode(fields)  # a tenth of the time, but it knows no escapes
    except UnicodeEncodeError:
        return _escaped(fields)
    return encoded.decode() if encoded.isascii() else _escaped(fields)


def read_answer(text: str, metadata: str | None) -> Answer:
    """Return the answer that an answering message holds."""
    fields = _object(text) or {}
    facts = _object(metadata or "") or {}
    body = fields.get("answer") if fields.get("type") == "response" else None
    sources = facts.get("sources") or fields.get("sources") or []
    plain = text.rsplit("\n\nSources: ", 1)[0] if sources else text
    return Answer(
        text=valid(body if isinstance(body, str) else plain),
        sources=[valid(str(source)) for source in sources] if isinstance(sources, list) else [],
        error=(facts.get("status") or fields.get("status")) == "error",
    )


def read_content(text: str, metadata: str | None = None) -> Content:
    """Return what people read of any message, which may be cut off or of another program."""
    fields = _object(text)
    kind = (_scalar(fields.get("type")) if fields else None) or read_envelope(metadata).type
    if kind == "response" and (fields or not _RESPONSE.match(text)):
        answer = read_answer(text, metadata)
        words = f"error: {answer.text}" if answer.error else answer.text
        return Content(kind, words, answer.sources)
    if fields is None:
        cut_off = re.search(_CUT_OFF, text) if _body(text).startswith("{") else None
        begun = _object(f'{{"text":"{cut_off[1]}"}}') if cut_off else None
        return Content(kind or "text", valid(str(begun["text"])) if begun else text)
    question = _scalar(fields.get("question"))
    return Content(kind or "text", text if question is None else valid(question))


def _body(text: str) -> str:
    """Return the text from its first character on, without blanks and a byte order mark."""
    text = text.lstrip()
    return text[1:].lstrip() if text.startswith(_BOM) else text


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that the text is, or None."""
    text = _body(text)
    if not text.startswith("{"):
        return None
    try:
        value = _parsed(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _parses(text: str) -> bool:
    try:
        _parsed(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str) -> Any:
    """Return the value that the JSON is; raise ValueError, or RecursionError."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        import json  # slower, but it takes NaN and half surrogate pairs, and says what is wrong

        return json.loads(text)


def _escaped(value: Any) -> str:
    import json

    return json.dumps(value)


def _why_not_json(text: str) -> str:
    try:
        _parsed(text)
    except ValueError as error:
        return f"the message looks like JSON but is not: {error}"
    except RecursionError:
        return "the message is JSON nested too deeply to read"
    return "the message cannot be read"


def _scalar(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _short(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
    return _escaped(value)[:60]


def _echoed(query_id: Any) -> Any:
    """Return what is given back of a query_id: all of it, unless it is nested beyond all use."""
    return query_id if _within(query_id, _ECHOED_DEPTH) else None


def _within(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return depth > 0 and all(_within(item, depth - 1) for item in value)
