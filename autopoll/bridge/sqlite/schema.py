"""The tables and how they came to be; every step runs once, in order, in one transaction.

The schema must be readable by the oldest SQLite that a legacy program brings along: one word that
it cannot parse (STRICT, a generated column) and it cannot open the file at all.
"""

from collections.abc import Callable
from pathlib import Path

import apsw

from autopoll.errors import BridgeError

# The tables of existing bridges. Other programs read and write them while autopoll runs.
_LEGACY = """
CREATE TABLE IF NOT EXISTS conversations (
  id TEXT PRIMARY KEY,
  session_a_role TEXT, session_b_role TEXT, session_a_token TEXT, session_b_token TEXT,
  created_at TEXT, expires_at TEXT);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation_id TEXT, from_session TEXT, to_session TEXT,
  message TEXT, metadata TEXT, timestamp TEXT, read INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS session_status (
  conversation_id TEXT, session_id TEXT, status TEXT, last_heartbeat TEXT,
  PRIMARY KEY (conversation_id, session_id));
CREATE TABLE IF NOT EXISTS audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation_id TEXT, session_id TEXT, action TEXT, details TEXT, timestamp TEXT);
"""

# Nothing refers to the legacy tables by foreign key: a program that enforces keys would no longer
# be able to delete its own rows. Routes are numbered so that a new one is seen by its number.
_OWN = """
CREATE TABLE deliveries (
  message_id INTEGER PRIMARY KEY,
  conversation_id TEXT NOT NULL, to_session TEXT NOT NULL, shard TEXT NOT NULL, lane TEXT NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('queued','ready','leased','done','dead')),
  attempts INTEGER NOT NULL DEFAULT 0, fence INTEGER NOT NULL DEFAULT 0, owner TEXT,
  lease_until INTEGER, not_before INTEGER NOT NULL DEFAULT 0, last_error TEXT, waiter TEXT,
  enrolled_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, settled_at INTEGER,
  dismissed_at INTEGER,
  CHECK((state='leased')=(owner IS NOT NULL)), CHECK((state='leased')=(lease_until IS NOT NULL)),
  CHECK((state IN ('done','dead'))=(settled_at IS NOT NULL)));
CREATE UNIQUE INDEX d_head ON deliveries(lane) WHERE state IN ('ready','leased');
CREATE INDEX d_ready ON deliveries(shard, message_id, not_before, changed_at) WHERE state='ready';
CREATE INDEX d_queued ON deliveries(lane, message_id) WHERE state='queued';
CREATE INDEX d_lease ON deliveries(lease_until) WHERE state='leased';
CREATE INDEX d_dead ON deliveries(message_id) WHERE state='dead';
CREATE TABLE answers (
  query_id INTEGER PRIMARY KEY, answer_id INTEGER NOT NULL UNIQUE, fence INTEGER NOT NULL);
CREATE TABLE routes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  conversation_id TEXT NOT NULL, session TEXT NOT NULL, shard TEXT NOT NULL,
  UNIQUE (conversation_id, session));
CREATE TABLE budgets (
  conversation_id TEXT NOT NULL, session TEXT NOT NULL, spent_until REAL NOT NULL,
  PRIMARY KEY (conversation_id, session)) WITHOUT ROWID;
CREATE TABLE denials (
  conversation_id TEXT PRIMARY KEY, audit_id INTEGER NOT NULL, since INTEGER NOT NULL,
  count INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX m_unread ON messages(conversation_id, to_session, id) WHERE read=0;
CREATE INDEX m_conversation ON messages(conversation_id, id);
"""

# The index of heads keeps a second one out of a lane. The lane of an independent question, which
# has no slash in its name, can have no second one, and is left out: its way costs a page less. An
# answer is found by its question, and nothing looks the other way.
_FEWER_PAGES = """
DROP INDEX d_head;
CREATE UNIQUE INDEX d_head ON deliveries(lane)
  WHERE state IN ('ready','leased') AND instr(lane,'/')>0;
ALTER TABLE answers RENAME TO answers_1;
CREATE TABLE answers (
  query_id INTEGER PRIMARY KEY, answer_id INTEGER NOT NULL, fence INTEGER NOT NULL);
INSERT INTO answers SELECT query_id, answer_id, fence FROM answers_1;
DROP TABLE answers_1;
"""

# Dollars are unknown (NULL) as long as no answer has reported them.
_USAGE = """
CREATE TABLE usage (
  day TEXT NOT NULL, shard TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
  cost_usd REAL, answers INTEGER NOT NULL,
  PRIMARY KEY (day, shard)) WITHOUT ROWID;
"""

# Keys of senders, and the way from a token's digest to its conversation.
_KEYS = """
CREATE TABLE keys (
  id INTEGER PRIMARY KEY,
  scope TEXT NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL, message_id INTEGER NOT NULL,
  made_at INTEGER NOT NULL, UNIQUE (scope, name));
CREATE INDEX k_age ON keys(made_at);
CREATE INDEX c_token_a ON conversations(session_a_token);
CREATE INDEX c_token_b ON conversations(session_b_token);
"""

# The owner that has settled its lease under `fence`; NULL when somebody else ended the lease.
_SETTLED_BY = "ALTER TABLE deliveries ADD COLUMN settled_by TEXT;"

_POLLERS = """
CREATE TABLE pollers (
  owner TEXT PRIMARY KEY, home TEXT NOT NULL, host TEXT NOT NULL, version TEXT NOT NULL,
  beat_until INTEGER NOT NULL) WITHOUT ROWID;
"""

# A row of before is that of a poller which has ended; it was last seen at `beat_until`, or earlier.
_HOMES = """
ALTER TABLE pollers ADD COLUMN folder TEXT NOT NULL DEFAULT '';
ALTER TABLE pollers ADD COLUMN shards TEXT NOT NULL DEFAULT '[]';
ALTER TABLE pollers ADD COLUMN beat_at INTEGER NOT NULL DEFAULT 0;
UPDATE pollers SET beat_at=beat_until;
"""

# What is kept of each attempt, as JSON; of the attempts of before nothing is known.
_HISTORY = "ALTER TABLE deliveries ADD COLUMN history TEXT;"

STEPS = (_LEGACY + _OWN, _FEWER_PAGES, _USAGE, _KEYS, _SETTLED_BY, _POLLERS, _HOMES, _HISTORY)
KNOWN = len(STEPS)


def version(db: apsw.Connection, path: Path) -> int:
    """Return the schema version of the file, 0 for one that autopoll has not been in.

    user_version is one number for the whole file. A foreign program that counts its own versions
    there is refused with BridgeError and left alone: our number would mislead its next start.
    """
    number: int = db.pragma("user_version")
    if 0 < number <= KNOWN and not db.table_exists(None, "deliveries"):
        raise BridgeError(
            f"{path} has user_version {number} but none of autopoll's tables",
            "Another program numbers its schema there; give autopoll a file of its own.",
        )
    return number


def require_current(found: int, path: Path) -> None:
    """Raise BridgeError unless the version is the one this code knows."""
    if found > KNOWN:
        raise BridgeError(
            f"{path} has the newer schema version {found}, this autopoll knows {KNOWN}",
            "Upgrade autopoll, or check that no other program sets the file's user_version.",
        )
    if found < KNOWN:
        raise BridgeError(
            f"{path} has the older schema version {found}, this autopoll needs {KNOWN}",
            "Migrate it with: autopoll up",
        )


def migrate(
    db: apsw.Connection, path: Path, keep_copy: Callable[[int], None] | None = None
) -> None:
    """Bring the file to the known version; raise BridgeError when it is beyond that.

    `keep_copy` is called with the version of a file that holds something, before it is changed and
    while nobody else can change it.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        found = version(db, path)  # again, because another process may have been quicker
        if found > KNOWN:
            require_current(found, path)
        if keep_copy and found < KNOWN and db.table_exists(None, "messages"):
            keep_copy(found)
        for step in STEPS[found:]:
            db.execute(step)
        db.pragma("user_version", KNOWN)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
