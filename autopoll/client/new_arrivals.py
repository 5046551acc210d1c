"""What an asker or a sender has for the bridge, in a form that can be stored again, and is once."""

import os

from autopoll.bridge.records import Arrival, IdempotencyKey
from autopoll.errors import UsageError
from autopoll.message import write_query

_INDEPENDENT = '{"lane":"own"}'  # the metadata of a question: it waits for no other …
_CANARY = '{"lane":"own","canary":true}'  # … one that asks for a sign of life
_TRIAL = '{"lane":"canary"}'  # … and one that is counted no more than that, and is answered


def question_arrival(
    question: str,
    context_file: str | None,
    conversation: str,
    session: str,
    *,
    key: IdempotencyKey | None = None,
    canary: bool = False,
    trial: bool = False,
) -> Arrival:
    """Return a question to be stored, in a lane of its own."""
    query_id = f"q-{_random()}"
    return Arrival(
        query_id=query_id,
        conversation=conversation,
        session=session,
        text=write_query(question, query_id, context_file),
        metadata=_CANARY if canary else _TRIAL if trial else _INDEPENDENT,
        key=key,
    )


def message_arrival(text: str, metadata: str | None, conversation: str, session: str) -> Arrival:
    """Return a text to be stored as it is; it holds nothing to find it by, and so it has a key."""
    key = IdempotencyKey(scope=f"{conversation} {session}", name=_random(), digest=b"")
    return Arrival(
        query_id="",
        conversation=conversation,
        session=session,
        text=text,
        metadata=metadata,
        key=key,
    )


def require_question(question: str) -> None:
    """Raise UsageError for what is no question."""
    if not question.strip():
        raise UsageError("the question is empty", "Give one: autopoll ask 'How …?'")
    if "\0" in question:
        raise UsageError("the question holds a NUL character", "Send text.")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise UsageError("the question is not UTF-8", "Send text in UTF-8.") from None


def _random() -> str:
    return os.urandom(8).hex()
