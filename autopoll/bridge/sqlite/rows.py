"""Rows of the legacy tables, and text as foreign programs may have left it.

What writes here is called within a transaction.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from autopoll.bridge.records import Message
from autopoll.bridge.sqlite.connection import Database
from autopoll.clock import utc_iso
from autopoll.errors import NotFound, RowRefused, UsageError

_METADATA_LIMIT = 64 << 10  # bytes; more than that is no envelope of ours
_PARSED_LIMIT = 64 << 20  # bytes of a message over the limit of which type and query_id are read

# As bytes, because foreign text need not be UTF-8. In place of a text over the limit comes what is
# needed to answer it in its form: its JSON's type and query_id, or its first bytes.
TEXT = f"""CASE WHEN m.message IS NULL THEN x'' WHEN octet_length(m.message)<=:max
    THEN CAST(m.message AS BLOB)
  WHEN octet_length(m.message)<={_PARSED_LIMIT} AND json_valid(CAST(m.message AS TEXT))
    AND json_type(CAST(m.message AS TEXT))='object'
    THEN CAST(json_object('type',CAST(m.message AS TEXT)->>'$.type',
      'query_id',CAST(m.message AS TEXT)->'$.query_id') AS BLOB)
  ELSE substr(CAST(m.message AS BLOB),1,64) END"""
METADATA = (
    f"CASE WHEN octet_length(m.metadata)<={_METADATA_LIMIT} THEN CAST(m.metadata AS BLOB) END"
)

# Foreign programs may have stored anything. As bytes it can be read; as text it need not be UTF-8,
# which SQLite does not check and the driver refuses.
MESSAGE = """m.id, CAST(m.conversation_id AS BLOB), CAST(m.from_session AS BLOB),
  CAST(m.to_session AS BLOB), CAST(m.message AS BLOB), CAST(m.metadata AS BLOB),
  CAST(m.timestamp AS BLOB), m.read IS NOT 0"""


def require_conversation(db: Database, conversation: str) -> None:
    """Raise NotFound when there is no such conversation."""
    if not db.rows("SELECT 1 FROM conversations WHERE id=?", (conversation,)):
        raise unknown_conversation(conversation)


def unknown_conversation(conversation: str) -> NotFound:
    """Return the error for a conversation that does not exist."""
    return NotFound(
        f"there is no conversation {conversation!r}", "List them with: autopoll conversations"
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
    """Return the message of a row of MESSAGE."""
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


def insert_messages(db: Database, new: Sequence[MessageRow]) -> list[int]:
    """Add messages and return their numbers; raise RowRefused where one is left out."""
    numbers = db.insert(
        "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,read,"
        "timestamp) VALUES(?,?,?,?,?,?,?) RETURNING id",
        [(*each, utc_iso()) for each in new],
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


def insert_audit_lines(db: Database, lines: Sequence[AuditLine]) -> list[int]:
    """Add lines to the audit log and return their numbers."""
    return db.insert(
        "INSERT INTO audit_log(conversation_id,session_id,action,details,timestamp)"
        " VALUES(?,?,?,?,?) RETURNING id",
        [(*each, utc_iso()) for each in lines],
    )


def other_session(session: str) -> str:
    """Return the partner of session 'a' or 'b'; raise UsageError for any other name."""
    if session not in ("a", "b"):
        raise UsageError(
            f"there is no session {session!r}", "A conversation's sessions are a and b."
        )
    return "b" if session == "a" else "a"


def readable(value: bytes | None) -> str | None:
    """Return stored bytes as text; what is not UTF-8 becomes U+FFFD."""
    return None if value is None else value.decode("utf-8", "replace")
