"""A bridge client that knows only the legacy tables: the standard library's sqlite3, no bell.

Written from the description of those tables, and run as a program of its own, the way the existing
multi-agent bridges run beside autopoll.
"""

import json
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
  id TEXT PRIMARY KEY, session_a_role TEXT NOT NULL, session_b_role TEXT NOT NULL,
  session_a_token TEXT NOT NULL, session_b_token TEXT NOT NULL,
  created_at TEXT NOT NULL, expires_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id TEXT NOT NULL,
  from_session TEXT NOT NULL, to_session TEXT NOT NULL, message TEXT NOT NULL,
  metadata TEXT, timestamp TEXT NOT NULL, read INTEGER DEFAULT 0,
  FOREIGN KEY (conversation_id) REFERENCES conversations(id));
CREATE TABLE IF NOT EXISTS session_status (
  conversation_id TEXT NOT NULL, session_id TEXT NOT NULL, status TEXT NOT NULL,
  last_heartbeat TEXT NOT NULL, PRIMARY KEY (conversation_id, session_id));
CREATE TABLE IF NOT EXISTS audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id TEXT, session_id TEXT,
  action TEXT NOT NULL, details TEXT, timestamp TEXT NOT NULL);
"""


class Legacy:
    """The old way in: INSERT with read=0; take by read=0 and mark read=1 in one transaction."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.executescript("PRAGMA journal_mode=WAL;" + TABLES)

    def converse(self, conversation: str) -> str:
        now = datetime.now(UTC).replace(tzinfo=None)
        self.db.execute(
            "INSERT INTO conversations VALUES (?, 'coordinator', 'memory', ?, ?, ?, ?)",
            (conversation, "a" * 64, "b" * 64, now.isoformat(), "2999-01-01T00:00:00"),
        )
        return conversation

    def insert(self, conversation: str, text: str) -> int:
        cursor = self.db.execute(
            "INSERT INTO messages (conversation_id, from_session, to_session, message, timestamp)"
            " VALUES (?, 'a', 'b', ?, ?)",
            (conversation, text, datetime.now(UTC).replace(tzinfo=None).isoformat()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def take(self, conversation: str, session: str) -> list[tuple[int, str]]:
        self.db.execute("BEGIN IMMEDIATE")
        rows = self.db.execute(
            "SELECT id, message FROM messages"
            " WHERE conversation_id=? AND to_session=? AND read=0 ORDER BY id",
            (conversation, session),
        ).fetchall()
        self.db.executemany("UPDATE messages SET read=1 WHERE id=?", [(row[0],) for row in rows])
        self.db.execute("COMMIT")
        return rows

    def answer(self, conversation: str, text: str) -> None:
        self.db.execute(
            "INSERT INTO messages (conversation_id, from_session, to_session, message, timestamp)"
            " VALUES (?, 'b', 'a', ?, ?)",
            (conversation, text, datetime.now(UTC).replace(tzinfo=None).isoformat()),
        )

    def await_answer(self, conversation: str, seconds: float = 20.0) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if rows := self.take(conversation, "a"):
                assert len(rows) == 1, rows
                return rows[0][1]
            time.sleep(0.001)
        raise AssertionError(f"no answer in {conversation} within {seconds} s")


def rival(path: Path, conversation: str, count: int) -> None:
    """Answer what this reader gets hold of, beside autopoll, until `count` messages were asked."""
    legacy = Legacy(path)
    taken = 0
    while True:
        for _, text in legacy.take(conversation, "b"):
            taken += 1
            legacy.answer(conversation, f"rival: {text}")
        (asked,) = legacy.db.execute(
            "SELECT count(*) FROM messages WHERE conversation_id=? AND to_session='b' AND read=1",
            (conversation,),
        ).fetchone()
        if asked >= count:
            break
        time.sleep(0.0005)
    print(json.dumps({"taken": taken}))


if __name__ == "__main__":
    rival(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
