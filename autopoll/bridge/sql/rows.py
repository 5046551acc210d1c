"""Rows of the legacy tables, and text as foreign programs may have left it.

What writes here is called within a transaction.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from autopoll.bridge.records import Message
from autopoll.bridge.sql.database import Database, Dialect
from autopoll.clock import utc_iso
from autopoll.errors import NotFound, RowRefused, UsageError

_METADATA_LIMIT = 64 << 10  # bytes; more than that is no envelope of ours


def stored(dialect: Dialect, *columns: str) -> str:
    """Return a list of columns as they can always be read, whatever a program has stored."""
    return ", ".join(dialect.stored_text.format(column) for column in columns)


def metadata_column(dialect: Dialect) -> str:
    """Return the column of a message's metadata, NULL for what is too long to be read."""
    column = stored(dialect, "m.metadata")
    return f"CASE WHEN octet_length(m.metadata)<={_METADATA_LIMIT} THEN {column} END"


def message_columns(dialect: Dialect) -> str:
    """Return the columns of a message m that `message_of` reads."""
    texts = ("conversation_id", "from_session", "to_session", "message", "metadata", "timestamp")
    columns = stored(dialect, *(f"m.{name}" for name in texts))
    return f"m.id, {columns}, m.read IS DISTINCT FROM 0"


def require_conversation(db: Database, conversation: str) -> None:
    """Raise NotFound when there is no such conversation."""
    if not db.rows("SELECT 1 FROM conversations WHERE id=?", (conversation,)):
        raise unknown_conversation(conversation)


def unknown_conversation(conversation: str) -> NotFound:
    """Return the error for a conversation that does not exist."""
    return NotFound(
        f"there is no conversation {conversation!r}", "List them with: autopoll conversations list"
    )


class MessageRow(NamedTuple):
    """A message to add; unread as a legacy writer's, or taken already."""

    conversation: str
    sender: str
    recipient: str
    text: str
    metadata: str | None
    read: bool = False


def message_of(row: Sequence[Any]) -> Message:
    """Return the message of a row of `message_columns`."""
    number, conversation, sender, recipient, text, metadata, timestamp, read = row
    return Message(
        id=number,
        conversation=readable(conversation) or "",
        sender=readable(sender) or "",
        recipient=readable(recipient) or "",
        text=readable(text) or "",
        metadata=readable(metadata),
        timestamp=readable(timestamp) or "",
        read=bool(read),
    )


def insert_messages(db: Database, new: Sequence[MessageRow], *, answers: bool = False) -> list[int]:
    """Add messages and return their numbers; raise RowRefused where one is left out."""
    column, value = db.dialect.answer_mark if answers else ("", "")
    numbers = db.insert(
        "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,read,"
        f"timestamp{column}) VALUES(?,?,?,?,?,?,?{value}) RETURNING id",
        [(*each[:-1], int(each.read), utc_iso()) for each in new],
    )
    if len(numbers) < len(new):
        raise RowRefused("a trigger of another program leaves out messages")
    return numbers


class AuditLine(NamedTuple):
    """A line to add to the audit log, whose readers expect JSON in `details`."""

    conversation: str | None
    session: str | None
    action: str
    details: str


_ADD_LINE = """INSERT INTO audit_log(conversation_id,session_id,action,details,timestamp)
  VALUES(?,?,?,?,?)"""


def insert_audit_lines(db: Database, lines: Sequence[AuditLine]) -> None:
    """Add lines to the audit log."""
    db.many(_ADD_LINE, [(*each, utc_iso()) for each in lines])


def insert_audit_line(db: Database, line: AuditLine) -> int | None:
    """Add a line to the audit log and return its number; None where a trigger leaves it out."""
    return next(iter(db.insert(f"{_ADD_LINE} RETURNING id", [(*line, utc_iso())])), None)


def other_session(session: str) -> str:
    """Return the partner of session 'a' or 'b'; raise UsageError for any other name."""
    if session not in ("a", "b"):
        raise UsageError(
            f"there is no session {session!r}", "A conversation's sessions are a and b."
        )
    return "b" if session == "a" else "a"


def readable(value: bytes | str | None) -> str | None:
    """Return what was stored as text; what is not UTF-8 becomes U+FFFD."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
