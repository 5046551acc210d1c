"""What a claim and a settle cost in a large store: their time, and the pages that they touch.

The engine itself is asked. auto_explain, a module of PostgreSQL, sends back what EXPLAIN (ANALYZE,
BUFFERS) would say of each statement; the times are of calls without it.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
import psycopg
from psycopg.errors import Diagnostic

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import Answered, Answerer, Arrival, BridgeLimits
from autopoll.message import Answer
from bench.cost.figures import Figure, Say, spread
from bench.postgres.apps.settings import url_of

CLAIM, SETTLE = "claim", "settle"
EMPTY, SETTLED, QUEUED = "an empty store", "{:,} settled", "{:,} queued in one conversation"
_SETTLED, _QUEUED, _CALLS = 1_000_000, 100_000, 200
_BATCH = 1000
_OWNER, _LEASE_MS = "bench", 600_000
_LIMITS = BridgeLimits(rate_per_s=1e9, rate_burst=10**9)
_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
        "auto_explain.log_buffers=on",
        "auto_explain.log_format=json",
        "client_min_messages=log",
    )
)
# As the engine leaves them: read, seen, answered.
_FILL = """
INSERT INTO autopoll.messages(conversation_id, from_session, to_session, message, metadata,
    timestamp, read, unseen)
  SELECT 'filled'||n%%1000, 'a', 'b', repeat('q', 300), '{{"lane":"own"}}', '2026-01-01', 1, false
  FROM generate_series(1, {count}) n;
INSERT INTO autopoll.deliveries(message_id, conversation_id, to_session, shard, lane, state,
    attempts, fence, enrolled_at, changed_at, settled_at, settled_by)
  SELECT id, conversation_id, 'b', 'main', 'm'||id, 'done', 1, 1, 1, 1, 1, 'another'
  FROM autopoll.messages WHERE conversation_id LIKE 'filled%%';
INSERT INTO autopoll.answers SELECT message_id, message_id, 1 FROM autopoll.deliveries
  WHERE settled_by='another';
"""


class Plan(msgspec.Struct):
    """What a statement has touched: pages in the server's memory, and those read into it."""

    hit: int = msgspec.field(name="Shared Hit Blocks", default=0)
    read: int = msgspec.field(name="Shared Read Blocks", default=0)


class _Explained(msgspec.Struct):
    plan: Plan = msgspec.field(name="Plan")


def figures(server: Path, scale: float, say: Say) -> list[Figure]:
    """Return what a claim and a settle of one question cost in stores of three kinds."""
    settled, queued = round(_SETTLED * scale), round(_QUEUED * scale)
    calls = max(20, round(_CALLS * scale))
    with closing(_bridge(server, create=True)) as bridge:
        conversation = _served(bridge)
        found = list(_measured(server, bridge, conversation, EMPTY, calls))
        say(f"filling a store with {settled:,} settled questions")
        _fill(server, settled)
        found += _measured(server, bridge, conversation, SETTLED.format(settled), calls)
        say(f"queueing {queued:,} questions in one conversation")
        full = _served(bridge)
        for first in range(0, queued, _BATCH):
            count = min(_BATCH, queued - first)
            _ask(bridge, full, count)
            bridge.deliveries.claim(_OWNER, {}, _LEASE_MS)
        _analyze(server)
        found += _measured(server, bridge, None, QUEUED.format(queued), calls)
    return found


def _bridge(server: Path, *, create: bool = False, options: str = "") -> PostgresBridge:
    given = f"&options={quote(options)}" if options else ""
    bridge = PostgresBridge(url_of(server, given), _LIMITS, create=create)
    answerer = Answerer(
        owner=_OWNER, home="0" * 32, host="here", folder="/", version="1", shards=["main"]
    )
    bridge.deliveries.take_over(answerer, _LEASE_MS)
    return bridge


def _served(bridge: PostgresBridge) -> str:
    conversation = bridge.conversations.create("asker", "shard").conversation
    bridge.conversations.serve(conversation, "b", "main")
    return conversation


def _ask(bridge: PostgresBridge, conversation: str, count: int = 1) -> None:
    text = "q" * 300
    asked = Arrival(query_id=text[:16], conversation=conversation, session="a", text=text)
    bridge.messages.store([asked] * count)


def _measured(
    server: Path, bridge: PostgresBridge, conversation: str | None, store: str, calls: int
) -> Iterator[Figure]:
    """Yield the figures of a store; without a conversation its questions wait there already."""
    seconds = [_once(bridge, conversation) for _ in range(calls)]
    with closing(_bridge(server, options=_OPTIONS)) as explained, _plans(explained) as plans:
        _once(explained, conversation, plans)
    for name, number in ((CLAIM, 0), (SETTLE, 1)):
        times = spread([each[number] * 1e6 for each in seconds])
        pages = [each for part, each in plans if part == name]
        read = sum(each.read for each in pages)
        touched = sum(each.hit for each in pages) + read
        yield Figure(
            section=name,
            name=store,
            value=times.p50,
            p99=times.p99,
            unit="us",
            note=f"{len(pages)} statements, {touched:,} pages",
        )


def _once(
    bridge: PostgresBridge, conversation: str | None, plans: "_Plans | None" = None
) -> tuple[float, float]:
    """Claim and settle one question; return how long each took."""
    if conversation:
        _ask(bridge, conversation)
        bridge.deliveries.claim(_OWNER, {}, _LEASE_MS)  # it is ready now, and not claimed
    began = time.perf_counter()
    with _part(plans, CLAIM):
        [delivery] = bridge.deliveries.claim(_OWNER, {"main": 1}, _LEASE_MS)
    claimed = time.perf_counter()
    answer = Answered(
        message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text="a" * 300)
    )
    with _part(plans, SETTLE):
        [settled] = bridge.deliveries.settle([answer], _OWNER)
    assert settled.state == "done", settled
    return claimed - began, time.perf_counter() - claimed


class _Plans(list[tuple[str, Plan]]):
    """The plans of the statements of each part."""

    part = ""

    def note(self, message: Diagnostic) -> None:
        _, found, plan = (message.message_primary or "").partition("plan:\n")
        if found and self.part:
            self.append((self.part, msgspec.json.decode(plan, type=_Explained).plan))


@contextmanager
def _part(plans: _Plans | None, name: str) -> Iterator[None]:
    if plans is not None:
        plans.part = name
    yield
    if plans is not None:
        plans.part = ""


@contextmanager
def _plans(bridge: PostgresBridge) -> Iterator[_Plans]:
    """Yield what takes up the plans that the server sends to the bridge's own connection."""
    connection = bridge._db.reconnection.connection
    assert connection
    plans = _Plans()
    connection.add_notice_handler(plans.note)
    yield plans
    connection.remove_notice_handler(plans.note)


def _fill(server: Path, count: int) -> None:
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        for statement in _FILL.format(count=count).replace("%%", "%").split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())
    _analyze(server)


def _analyze(server: Path) -> None:
    """Do what autovacuum does a minute later."""
    with psycopg.connect(url_of(server), autocommit=True) as connection:
        connection.execute(
            "VACUUM ANALYZE autopoll.messages, autopoll.deliveries, autopoll.answers"
        )
