"""Bridges with a past: as many messages as if they had answered, or been asked, for years.

The product itself answers the first question, by its own code; what that left in each table is then
copied inside the store, under numbers, conversations and lanes of its own. So the rows are those of
the product, whatever its schema is, only their texts are all the same.
"""
# What is put into a statement are names of the schema, never values

import os
import secrets
from pathlib import Path

import apsw

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answered, Answerer, Arrival, BridgeLimits
from autopoll.home.bridge_url import BridgeUrl
from autopoll.message import Answer, write_query

SHARD = "main"
LEASE_MS = 60_000
OWNER = "bench"
_QUERY_ID = f"q-{'0' * 16}"
QUESTION = write_query(
    "How does the poller notice that a foreign program wrote a message into the bridge, and what "
    "happens when the file system does not say so?",
    _QUERY_ID,
)
ANSWER = Answer(
    text="It watches the folder of the database, because the log beside it comes and goes. After "
    "an event it looks for some milliseconds until the commit can be seen. Where the file system "
    "does not tell, it looks once a second anyway, so that a message waits a second at most.",
    sources=["docs/operations.md:10-14"],
)
OWN_LANE = '{"lane":"own","waiter":"w-0000000000000000"}'  # as `autopoll ask` sends it
PER_CONVERSATION = 100  # questions

# What differs from the row that is copied; `n.k` counts the copies, `c.id` is their conversation.
_QUESTION, _ANSWER = "2*n.k+1", "2*n.k+2"
_REPLYING = f"json_set(t.metadata, '$.in_reply_to', {_QUESTION})"
_FACTS = f"json_set(t.details, '$.message_id', {_QUESTION}, '$.answer_id', {_ANSWER})"
_ANSWERED = {
    ("messages", "id=1"): {"id": _QUESTION, "conversation_id": "c.id"},
    ("messages", "id=2"): {
        "id": _ANSWER,
        "conversation_id": "c.id",
        "metadata": _REPLYING,
    },
    ("deliveries", "message_id=1"): {
        "message_id": _QUESTION,
        "conversation_id": "c.id",
        "lane": f"'m'||({_QUESTION})",
    },
    ("answers", "query_id=1"): {"query_id": _QUESTION, "answer_id": _ANSWER},
    ("audit_log", "action='query_answered'"): {
        "id": "NULL",
        "conversation_id": "c.id",
        "details": _FACTS,
    },
}
_CONVERSATION = {
    ("conversations", "1"): {"id": "c.id"},
    ("routes", "1"): {"id": "NULL", "conversation_id": "c.id"},
    ("budgets", "1"): {"conversation_id": "c.id"},
    ("session_status", "1"): {"conversation_id": "c.id"},
    ("audit_log", "action='conversation_created'"): {"id": "NULL", "conversation_id": "c.id"},
}
_QUEUED = {
    ("messages", "id=2"): {"id": "2+n.k"},
    ("deliveries", "message_id=2"): {"message_id": "2+n.k"},
}


def open_store(path: Path, *, create: bool = False) -> Bridge:
    """Open the bridge at that path, with room for as many questions as anybody measures."""
    limits = BridgeLimits(rate_per_s=1e6, rate_burst=10**6)
    return open_bridge(BridgeUrl(f"sqlite:///{path}"), path.parent, limits, create=create)


def answered(path: Path, messages: int) -> list[str]:
    """Make a bridge that holds so many messages, half of them answers; return its conversations.

    A hundred questions were asked in each of them, and all of them are served.
    """
    bridge = open_store(path, create=True)
    try:
        conversation = _converse(bridge)
        if messages:
            take_over(bridge)
            ask(bridge, conversation, OWN_LANE)
            settle(bridge, claim(bridge))
    finally:
        bridge.close()
    pairs = messages // 2
    names = [conversation, *_names(pairs // PER_CONVERSATION)]
    _copy(path, _CONVERSATION, len(names), names)
    _copy(path, _ANSWERED, pairs, names)
    return names


def queued(path: Path, questions: int) -> list[str]:
    """Make a bridge with so many questions in its one conversation, of which none was begun."""
    bridge = open_store(path, create=True)
    try:
        conversation = _converse(bridge)
        for _ in range(2):  # the head of the lane, and the first that waits behind it
            ask(bridge, conversation, None)
        bridge.deliveries.claim(OWNER, {}, LEASE_MS)
    finally:
        bridge.close()
    _copy(path, _QUEUED, questions - 1, [conversation])
    return [conversation]


def ask(bridge: Bridge, conversation: str, metadata: str | None) -> None:
    """Send one question."""
    asked = Arrival(
        query_id=_QUERY_ID,
        conversation=conversation,
        session="a",
        text=QUESTION,
        metadata=metadata,
    )
    bridge.messages.store([asked])


def take_over(bridge: Bridge) -> None:
    """Become the answerer."""
    home = "0" * 32
    answerer = Answerer(owner=OWNER, home=home, host="", folder="", version="", shards=[SHARD])
    bridge.deliveries.take_over(answerer, LEASE_MS)


def claim(bridge: Bridge) -> tuple[int, int]:
    """Claim one question, and return its number and fence."""
    (delivery,) = bridge.deliveries.claim(OWNER, {SHARD: 1}, LEASE_MS)
    return delivery.message_id, delivery.fence


def settle(bridge: Bridge, claimed: tuple[int, int]) -> None:
    """Answer what was claimed."""
    number, fence = claimed
    outcome = Answered(message_id=number, fence=fence, answer=ANSWER)
    (settled,) = bridge.deliveries.settle([outcome], OWNER)
    assert settled.state == "done", settled


def _converse(bridge: Bridge) -> str:
    """Open a conversation that a shard serves, and leave in it all that its use leaves."""
    tokens = bridge.conversations.create("asker", "memory")
    bridge.conversations.serve(tokens.conversation, "b", SHARD)
    bridge.conversations.authenticate(tokens.conversation, tokens.a)
    bridge.conversations.announce()
    return tokens.conversation


def _names(count: int) -> list[str]:
    return [f"conv_{secrets.token_hex(8)}" for _ in range(count - 1)]


def _copy(
    path: Path, rows: dict[tuple[str, str], dict[str, str]], count: int, names: list[str]
) -> None:
    """Copy rows until there are `count` of each, over the named conversations in turn."""
    db = apsw.Connection(str(path))
    try:
        # Nobody else has it open yet, and what is lost with the power is made anew.
        db.pragma("journal_mode", "off")
        db.pragma("synchronous", "off")
        db.pragma("cache_size", -256 * 1024)  # KiB; the indexes are filled out of their order
        db.execute("CREATE TEMP TABLE name (number INTEGER PRIMARY KEY, id TEXT NOT NULL)")
        db.executemany("INSERT INTO name VALUES (?, ?)", enumerate(names))
        for (table, which), differing in rows.items():
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            values = [differing.get(name, f"t.{name}") for name in columns]
            db.execute(
                f"CREATE TEMP TABLE t AS SELECT * FROM {table} WHERE {which};"
                "WITH RECURSIVE n(k) AS (SELECT 1 WHERE 1<:count UNION ALL"
                " SELECT k+1 FROM n WHERE k+1<:count)"
                f" INSERT INTO main.{table} SELECT {', '.join(values)} FROM n CROSS JOIN t"
                f" JOIN name c ON c.number=n.k % {len(names)};"
                "DROP TABLE t",
                {"count": count},
            )
    finally:
        db.close()
    # Now, lest the kernel write it out while something is measured.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
