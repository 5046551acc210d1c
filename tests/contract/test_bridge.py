"""What every engine of the bridge must do; a new engine joins by a line in ENGINES."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from answerers import HOME, LEASE, take_over
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import (
    LONGEST_CALL_S,
    SURE_S,
    Answered,
    Arrival,
    BridgeLimits,
    CommittedTurn,
    Delivery,
    Failed,
    IdempotencyKey,
    Outcome,
    Presence,
    QueryState,
    Released,
    SentMessage,
    Settled,
    Spent,
    Stored,
)
from autopoll.bridge.sqlite import SqliteBridge, connection
from autopoll.errors import (
    AccessDenied,
    AlreadyRunning,
    AutopollError,
    BridgeBusy,
    BridgeUnavailable,
    KeyReused,
    NotFound,
    RateLimited,
    RowRefused,
    UsageError,
)
from autopoll.message import Answer, write_query
from autopoll.request import Usage

DAY_MS = 24 * 3600 * 1000
OWN = '{"lane": "own"}'


class Clock:
    """Wall-clock milliseconds that move only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


class SqliteStore:
    """One store: bridges are opened on it, and foreign programs speak SQL to it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.path = folder / "bridge.db"
        self.bridges: list[SqliteBridge] = []

    def open(self, **given: Any) -> SqliteBridge:
        limits = BridgeLimits(**{"rate_per_s": 1e6, "rate_burst": 10**6, **given})
        bridge = SqliteBridge(self.path, limits, create=True, clock=self.clock)
        self.bridges.append(bridge)
        return bridge

    def foreign(self, sql: str, *values: Any) -> list[Any]:
        # Not the standard library's sqlite3: two copies of SQLite in one process take each other's
        # locks away (closing a file gives up all POSIX locks of the process) and ruin the file.
        db = apsw.Connection(str(self.path))
        db.set_busy_timeout(2000)
        rows = db.execute(sql, values).fetchall()
        db.close()
        return rows

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Keep every writer waiting, as a foreign program or a network can."""
        with closing(apsw.Connection(str(self.path))) as db:
            db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def uncommitted(self, bridge: SqliteBridge, write: Callable[[], object]) -> Iterator[None]:
        """Have a bridge write in another thread, and commit it no sooner than the block ends."""
        begun, over = threading.Event(), threading.Event()

        def hold() -> bool:
            begun.set()
            return not over.wait(30)

        bridge._db.driver.set_commit_hook(hold)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert begun.wait(30)
            with pytest.MonkeyPatch.context() as others:
                others.setattr(connection, "BUSY_S", 0.1)
                yield
        finally:
            over.set()
            writer.join()
            bridge._db.driver.set_commit_hook(None)

    def close(self) -> None:
        for bridge in self.bridges:
            bridge.close()


ENGINES = {"sqlite": SqliteStore}


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    opened = ENGINES[request.param](tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bridge(store: SqliteStore) -> Bridge:
    return store.open()


def talk(bridge: Bridge, shard: str | None = "main") -> str:
    conversation = bridge.conversations.create("asker", "shard").conversation
    if shard:
        bridge.conversations.serve(conversation, "b", shard)
    return conversation


def arrival(conversation: str, text: str, **given: Any) -> Arrival:
    """Return a question as an asker of ours sends it, by a name that is random unless given."""
    query_id = given.pop("query_id", f"q-{random.getrandbits(64):016x}")
    facts = {"session": "a", "metadata": OWN, "sent_at": time.monotonic(), **given}
    asked = write_query(text, query_id)
    return Arrival(query_id=query_id, conversation=conversation, text=asked, **facts)


def stored(one: SentMessage | AutopollError) -> SentMessage:
    assert isinstance(one, SentMessage), one
    return one


def once(
    bridge: Bridge, conversation: str, text: str, key: IdempotencyKey
) -> SentMessage | AutopollError:
    """Store a question under a key."""
    [one] = bridge.messages.store([arrival(conversation, text, key=key)])
    return one


def ask(bridge: Bridge, conversation: str, *texts: str, metadata: str | None = None) -> list[int]:
    return bridge.messages.send(conversation, "a", texts, [metadata] * len(texts))


def claim(
    bridge: Bridge, count: int = 10, shard: str = "main", owner: str = "me"
) -> list[Delivery]:
    return bridge.deliveries.claim(owner, {shard: count}, LEASE)


def claim_one(bridge: Bridge) -> Delivery:
    (delivery,) = claim(bridge)
    return delivery


def answered(delivery: Delivery, text: str = "yes") -> Answered:
    return Answered(message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text=text))


def failed(delivery: Delivery, wait_ms: int = 0, *, permanent: bool = False) -> Failed:
    return Failed(
        message_id=delivery.message_id,
        fence=delivery.fence,
        error="it broke",
        wait_ms=wait_ms,
        permanent=permanent,
    )


def released(delivery: Delivery) -> Released:
    return Released(message_id=delivery.message_id, fence=delivery.fence)


def settle(bridge: Bridge, outcome: Outcome, owner: str = "me") -> Settled:
    (settled,) = bridge.deliveries.settle([outcome], owner)
    return settled


def renew(bridge: Bridge, delivery: Delivery, owner: str = "me") -> bool:
    """Renew one lease and return whether it is still held."""
    held = bridge.deliveries.renew([(delivery.message_id, delivery.fence)], owner, LEASE)
    return held == {delivery.message_id}


# --- the way of a message to its answer


def test_a_question_is_taken_once_and_answered_once(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (asked,) = ask(bridge, conversation, "why?")
    assert bridge.messages.query_state(asked).state == "sent"
    delivery = claim_one(bridge)
    assert (delivery.text, delivery.attempt, delivery.session) == ("why?", 1, "b")
    assert claim(bridge) == []
    settled = settle(bridge, answered(delivery, "because"))
    assert settled.state == "done"
    state = bridge.messages.query_state(asked)
    assert (state.state, state.attempts, state.shard) == ("done", 1, "main")
    assert state.answer is not None
    assert (state.answer.id, state.answer.text) == (settled.answer_id, "because")
    assert (state.answer.sender, state.answer.recipient) == ("b", "a")
    assert json.loads(state.answer.metadata or "")["in_reply_to"] == asked
    assert [message.text for message in bridge.messages.receive(conversation, "a")] == ["because"]
    assert bridge.messages.receive(conversation, "a") == []


def test_a_json_question_gets_a_json_answer_with_its_query_id(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, '{"type":"query","query_id":"q7","question":"why?"}')
    settle(bridge, answered(claim_one(bridge)))
    (message,) = bridge.messages.receive(conversation, "a")
    assert json.loads(message.text)["query_id"] == "q7"


def test_only_the_head_of_a_conversation_is_handed_out(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second, third = ask(bridge, conversation, "1", "2", "3")
    delivery = claim_one(bridge)
    assert delivery.message_id == first
    assert [bridge.messages.query_state(asked).state for asked in (second, third)] == [
        "queued",
        "queued",
    ]
    settle(bridge, failed(delivery))
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.attempt) == (first, 2)
    settle(bridge, answered(delivery))
    assert claim_one(bridge).message_id == second


def test_independent_questions_do_not_wait_for_each_other(bridge: Bridge) -> None:
    conversation = talk(bridge)
    asked = ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    assert [delivery.message_id for delivery in claim(bridge)] == asked


def test_no_more_is_claimed_than_wanted_and_only_for_the_shard(bridge: Bridge) -> None:
    one, two = talk(bridge, "one"), talk(bridge, "two")
    ask(bridge, one, "1", "2", "3", metadata=OWN)
    ask(bridge, two, "4", metadata=OWN)
    taken = bridge.deliveries.claim("me", {"one": 2, "two": 0, "none": 9}, LEASE)
    assert [(delivery.shard, delivery.text) for delivery in taken] == [("one", "1"), ("one", "2")]
    assert bridge.overview.in_flight() == {"one": 2}


def test_what_is_new_takes_the_room_that_older_questions_leave(bridge: Bridge) -> None:
    conversation = talk(bridge)
    older = ask(bridge, conversation, *"ab", metadata=OWN)
    assert claim(bridge, 0) == []
    newer = ask(bridge, conversation, *"cde", metadata=OWN)
    assert [one.message_id for one in claim(bridge, 3)] == [*older, newer[0]]
    assert [one.message_id for one in claim(bridge, 3)] == newer[1:]


def test_messages_are_enrolled_in_order_even_when_nothing_is_wanted(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    assert bridge.deliveries.claim("me", {}, LEASE) == []
    assert bridge.overview.counts() == {"queued": 1, "ready": 1, "leased": 0, "done": 0, "dead": 0}


def test_a_message_sent_before_its_session_was_served_is_answered(bridge: Bridge) -> None:
    conversation = talk(bridge, None)
    ask(bridge, conversation, "early")
    assert claim(bridge) == []
    other = talk(bridge)
    ask(bridge, other, "late")
    settle(bridge, answered(claim_one(bridge)))
    bridge.conversations.serve(conversation, "b", "main")
    assert claim_one(bridge).text == "early"


def test_a_session_that_is_no_longer_served_still_gets_what_was_enrolled(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "enrolled")
    bridge.deliveries.claim("me", {}, LEASE)
    bridge.conversations.unserve(conversation, "b")
    ask(bridge, conversation, "too late")
    settle(bridge, answered(claim_one(bridge)))
    assert claim(bridge) == []
    assert bridge.conversations.routes() == {}


def test_a_route_to_another_shard_takes_along_what_is_not_begun(bridge: Bridge) -> None:
    conversation = talk(bridge, "old")
    ask(bridge, conversation, "1", "2")
    (begun,) = claim(bridge, shard="old")
    bridge.conversations.serve(conversation, "b", "new")
    settle(bridge, answered(begun))
    assert claim(bridge, shard="old") == []
    (moved,) = claim(bridge, shard="new")
    assert (moved.text, moved.shard) == ("2", "new")
    assert bridge.conversations.routes() == {(conversation, "b"): "new"}


def test_who_answers_a_session_is_found_by_itself(bridge: Bridge) -> None:
    served, plain = talk(bridge, "other"), talk(bridge, shard=None)
    assert (
        bridge.conversations.shard_of(served, "b")
        == bridge.conversations.routes()[served, "b"]
        == "other"
    )
    assert (
        bridge.conversations.shard_of(served, "a")
        is bridge.conversations.shard_of(plain, "b")
        is None
    )
    assert bridge.conversations.shard_of("nowhere", "b") is None


@pytest.mark.parametrize("kind", ["response", "status", "heartbeat"])
def test_what_wants_no_answer_stays_unread_for_its_reader(bridge: Bridge, kind: str) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, json.dumps({"type": kind}))
    ask(bridge, conversation, "text", metadata=json.dumps({"type": kind}))
    assert claim(bridge) == []
    assert len(bridge.messages.find(conversation=conversation, unread=True)) == 2
    ask(bridge, conversation, "a question")
    assert claim_one(bridge).text == "a question"


def test_the_answer_of_one_served_session_is_no_question_for_the_other(bridge: Bridge) -> None:
    conversation = talk(bridge)
    bridge.conversations.serve(conversation, "a", "main")
    ask(bridge, conversation, "ping")
    settle(bridge, answered(claim_one(bridge), "pong"))
    assert claim(bridge) == []


def test_a_message_set_back_to_unread_is_not_answered_twice(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    (asked,) = ask(bridge, conversation, "once")
    settle(bridge, answered(claim_one(bridge)))
    store.foreign("UPDATE messages SET read=0 WHERE id=?", asked)
    store.clock.now += 61_000
    assert claim(bridge) == []


def test_the_sweep_finds_a_message_whose_number_is_not_new(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    (first, second) = ask(bridge, conversation, "1", "2")
    bridge.messages.receive(conversation, "b")
    assert claim(bridge) == []
    store.foreign("UPDATE messages SET read=0 WHERE id=?", first)
    store.clock.now += 61_000
    assert claim_one(bridge).message_id == first
    assert bridge.messages.query_state(second).state == "sent"


def test_more_than_one_batch_is_enrolled_in_order(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, *map(str, range(2500)))
    for expected in (1000, 2000, 2500):
        bridge.deliveries.claim("me", {}, LEASE)
        assert sum(bridge.overview.counts().values()) == expected
    assert claim_one(bridge).text == "0"


def test_duplicates_are_two_messages(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "same", "same")
    settle(bridge, answered(claim_one(bridge)))
    settle(bridge, answered(claim_one(bridge)))
    assert len(bridge.messages.receive(conversation, "a")) == 2


# --- settling


def test_an_old_fence_is_refused_and_the_rest_of_the_batch_is_not(bridge: Bridge) -> None:
    conversation = talk(bridge)
    old, other = (ask(bridge, conversation, text, metadata=OWN)[0] for text in ("1", "2"))
    stale, fresh = claim(bridge)
    settle(bridge, failed(stale))
    again = claim_one(bridge)
    states = bridge.deliveries.settle(
        [answered(stale, "stale"), answered(fresh), answered(again, "again")], "me"
    )
    assert [settled.state for settled in states] == ["lost", "done", "done"]
    answer = bridge.messages.query_state(old).answer
    assert answer is not None and answer.text == "again"
    assert bridge.messages.query_state(other).state == "done"
    assert len(bridge.messages.receive(conversation, "a")) == 2


@pytest.mark.parametrize("make", [answered, failed, released])
def test_every_outcome_under_an_old_fence_changes_nothing(
    bridge: Bridge, make: Callable[[Delivery], Outcome]
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1")
    stale = claim_one(bridge)
    settle(bridge, failed(stale))
    current = claim_one(bridge)
    assert settle(bridge, make(stale)).state == "lost"
    assert not renew(bridge, stale)
    assert settle(bridge, answered(current)).state == "done"


SETTLING: dict[str, tuple[Callable[[Delivery], Outcome], str]] = {
    "answered": (answered, "done"),
    "failed": (failed, "ready"),
    "given up": (lambda delivery: failed(delivery, permanent=True), "dead"),
    "released": (released, "ready"),
}


@pytest.mark.parametrize("and_claim", [True, False])
@pytest.mark.parametrize("how", SETTLING)
def test_a_settle_that_is_repeated_says_again_what_it_led_to_and_does_nothing_twice(
    bridge: Bridge, how: str, and_claim: bool
) -> None:
    conversation = talk(bridge)
    asked, other = ask(bridge, conversation, "1", "2", metadata=OWN)
    held, kept = claim(bridge)
    make, state = SETTLING[how]
    outcome = costing(make(held), USED)
    first = settle(bridge, outcome)
    assert first.state == state
    outcomes = [answered(kept), outcome]
    fresh, again = (
        bridge.deliveries.commit_turn([], outcomes, "me", {}, LEASE).settled
        if and_claim
        else bridge.deliveries.settle(outcomes, "me")
    )
    assert (fresh.state, again.state, again.answer_id) == ("done", state, first.answer_id)
    assert again.query == bridge.messages.query_state(asked)
    answers = bridge.messages.receive(conversation, "a")
    assert len(answers) == (1 if first.answer_id is None else 2)
    assert bridge.overview.spent()["main"].output_tokens == USED.output_tokens
    assert bridge.messages.query_state(other).state == "done"


@pytest.mark.parametrize("how", SETTLING)
def test_what_an_owner_has_settled_is_lost_for_another_under_the_same_fence(
    bridge: Bridge, how: str
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    make, state = SETTLING[how]
    assert settle(bridge, make(held)).state == state
    late = settle(bridge, answered(held), owner="another")
    assert late == Settled(message_id=held.message_id, state="lost")


def test_a_lease_that_others_have_ended_was_not_settled_by_its_owner(store: SqliteStore) -> None:
    bridge = store.open(max_attempts=1)
    take_over(bridge, "me")
    ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    late, held = claim(bridge)
    settle(bridge, released(late))
    late = claim_one(bridge)
    store.clock.now += LEASE - 1
    renew(bridge, held)
    store.clock.now += 2
    assert [one.state for one in bridge.deliveries.reap()] == ["dead"]
    assert settle(bridge, costing(answered(late), USED)).state == "lost"
    assert bridge.overview.spent()["main"].output_tokens == USED.output_tokens, "spent is spent"
    take_over(bridge, "another")
    assert settle(bridge, answered(held)).state == "lost"


def test_a_settle_that_is_repeated_after_the_next_claim_is_lost(bridge: Bridge) -> None:
    ask(bridge, talk(bridge), "1")
    first = claim_one(bridge)
    settle(bridge, failed(first))
    second = claim_one(bridge)
    assert settle(bridge, failed(first)).state == "lost"
    assert settle(bridge, answered(second)).state == "done"


def test_a_fence_that_is_handed_out_once_more_is_lost_for_its_first_owner(bridge: Bridge) -> None:
    """As when a server has failed and lost the second claim, not what was settled before it."""
    ask(bridge, talk(bridge), "1")
    first = claim_one(bridge)
    settle(bridge, failed(first))
    (held,) = claim(bridge, owner="another")
    undone = msgspec.structs.replace(first, fence=held.fence)
    assert settle(bridge, answered(undone)).state == "lost"
    assert settle(bridge, answered(held), owner="another").state == "done"
    assert settle(bridge, answered(undone)).state == "lost"


@pytest.mark.parametrize("make", [answered, failed, released])
def test_every_outcome_of_another_owner_changes_nothing_under_the_same_fence(
    bridge: Bridge, make: Callable[[Delivery], Outcome]
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    assert settle(bridge, make(held), owner="another").state == "lost"
    turned = bridge.deliveries.commit_turn([], [make(held)], "another", {"main": 9}, LEASE)
    assert ([one.state for one in turned.settled], turned.claimed) == (["lost"], [])
    assert settle(bridge, answered(held)).state == "done"


def test_another_owner_renews_nothing_under_the_same_fence(
    bridge: Bridge, store: SqliteStore
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    store.clock.now += LEASE
    assert not renew(bridge, held, owner="another")
    store.clock.now += 1
    assert [one.message_id for one in bridge.deliveries.reap()] == [held.message_id]


def test_a_turn_settles_and_hands_out_what_that_made_ready(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "first", "second")
    delivery = claim_one(bridge)
    (own,) = ask(bridge, conversation, "of its own", metadata=OWN)
    outcomes = [answered(delivery), answered(delivery, "again")]
    _, settled, taken = bridge.deliveries.commit_turn([], outcomes, "me", {"main": 10}, LEASE)
    assert [one.state for one in settled] == ["done", "lost"]
    assert [(one.message_id, one.fence) for one in taken] == [(second, 1), (own, 1)]
    assert bridge.messages.query_state(first).state == "done"
    assert bridge.deliveries.commit_turn([], [], "me", {"main": 10}, LEASE) == ([], [], [])


def test_a_turn_without_room_settles_all_the_same(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "first", "second")
    delivery = claim_one(bridge)
    _, settled, taken = bridge.deliveries.commit_turn(
        [], [answered(delivery)], "me", {"main": 0}, LEASE
    )
    assert ([one.state for one in settled], taken) == (["done"], [])
    assert [one.text for one in claim(bridge)] == ["second"]


def test_a_failure_waits_before_it_is_tried_again(bridge: Bridge, store: SqliteStore) -> None:
    ask(bridge, talk(bridge), "1")
    assert settle(bridge, failed(claim_one(bridge), 5000)).state == "ready"
    store.clock.now += 4999
    assert claim(bridge) == []
    store.clock.now += 1
    assert claim_one(bridge).attempt == 2


def test_the_last_failure_is_answered_with_the_error_and_frees_the_lane(
    store: SqliteStore,
) -> None:
    bridge = store.open(max_attempts=2)
    conversation = talk(bridge)
    asked, waiting = ask(bridge, conversation, "1", "2")
    assert settle(bridge, failed(claim_one(bridge))).state == "ready"
    settled = settle(bridge, failed(claim_one(bridge)))
    assert (settled.state, settled.answer_id is not None) == ("dead", True)
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 2 attempts: it broke"
    assert json.loads(message.metadata or "")["status"] == "error"
    assert bridge.messages.query_state(asked).last_error == "it broke"
    assert claim_one(bridge).message_id == waiting


def test_a_permanent_failure_is_answered_at_once_with_the_error_itself(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1")
    assert settle(bridge, failed(claim_one(bridge), permanent=True)).state == "dead"
    assert [message.text for message in bridge.messages.receive(conversation, "a")] == ["it broke"]


def test_a_release_gives_the_attempt_back(bridge: Bridge) -> None:
    ask(bridge, talk(bridge), "1")
    for _ in range(9):
        delivery = claim_one(bridge)
        assert delivery.attempt == 1
        assert settle(bridge, released(delivery)).state == "ready"


def test_an_answer_is_stored_without_secrets_and_without_what_others_cannot_read(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "plain", '{"question": "json"}')
    for _ in range(2):
        settle(bridge, answered(claim_one(bridge), "key AKIA" + "Q" * 16 + " \ud800 \0 \U0001f600"))
    plain, wrapped = (message.text for message in bridge.messages.receive(conversation, "a"))
    assert (
        plain == json.loads(wrapped)["answer"] == "key [redacted:aws-key] \ufffd \ufffd \U0001f600"
    )


# --- what the store does not take

_REFUSE = """CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN {}
  BEGIN SELECT RAISE(ABORT, 'not in here'); END"""


@pytest.mark.parametrize("and_claim", [True, False])
def test_an_answer_that_the_store_refuses_becomes_an_error_and_holds_up_no_other(
    bridge: Bridge, store: SqliteStore, and_claim: bool
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    (later,) = ask(bridge, conversation, "4")
    one, two, three, _ = taken = claim(bridge)
    store.foreign(_REFUSE.format("new.message LIKE '%poison%'"))
    outcomes = [answered(one), answered(two, "poison"), answered(three), answered(taken[3])]
    outcomes[1] = msgspec.structs.replace(outcomes[1], usage=Usage(output_tokens=7))
    settled = (
        bridge.deliveries.commit_turn([], outcomes, "me", {}, LEASE).settled
        if and_claim
        else bridge.deliveries.settle(outcomes, "me")
    )
    assert [each.state for each in settled] == ["done", "dead", "done", "done"]
    answer = bridge.messages.query_state(two.message_id).answer
    assert answer and answer.text == "the answer cannot be stored in the bridge"
    assert bridge.messages.query_state(later).state == "done"


def test_what_cannot_be_settled_at_all_stays_leased_and_holds_up_no_other(
    store: SqliteStore,
) -> None:
    bridge = store.open(max_attempts=1)
    cursed, blessed = talk(bridge), talk(bridge)
    ask(bridge, cursed, "1")
    ask(bridge, blessed, "2", "3")
    store.foreign(_REFUSE.format(f"new.conversation_id='{cursed}'"))
    one, two = claim(bridge)
    settled = bridge.deliveries.settle([answered(one), answered(two)], "me")
    assert [each.state for each in settled] == ["lost", "done"]
    three = claim_one(bridge)
    store.clock.now += LEASE + 1
    assert [each.message_id for each in bridge.deliveries.reap()] == [three.message_id]
    store.foreign("DROP TRIGGER refuse")
    [reaped] = bridge.deliveries.reap()
    assert (reaped.message_id, reaped.state, reaped.answer_id) == (one.message_id, "dead", 6)


ODD = ["NULL", "x'ff00fe'", "x''", "12345", "1.5", "9223372036854775807", "'{'", "x'7b7d'",
       "CAST(x'7b227175657374696f6e223a22ff227d' AS TEXT)", "x'efbbbf7b7d'", "char(0)||'a'",
       "'{\"question\":\"q\",\"query_id\":' || printf('%.*c', 5000, '9') || '}'",
       "'{\"question\":\"q\",\"query_id\":1e400}'", "printf('%.*c', 60000, '[')"]  # fmt: skip


def test_whatever_stands_in_a_foreign_row_it_is_enrolled_and_settled_beside_a_good_one(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    insert = "INSERT INTO messages(conversation_id,to_session,message,{}) VALUES(?,'b','why?',{})"
    for column in ("metadata", "from_session", "timestamp"):
        for odd in ODD:
            store.foreign(insert.format(column, odd), conversation)
    for odd in ODD:
        store.foreign(
            f"INSERT INTO messages(conversation_id,to_session,message) VALUES(?,'b',{odd})",
            conversation,
        )
    (good,) = ask(bridge, conversation, "good")
    settled = 0
    while taken := claim(bridge):
        settled += len(
            bridge.deliveries.settle([answered(each, "so \ud83d") for each in taken], "me")
        )
    assert settled == 4 * len(ODD) + 1
    answer = bridge.messages.query_state(good).answer
    assert answer and answer.text == "so \ufffd"


def test_a_store_that_keeps_a_call_waiting_gives_it_up_in_time(
    bridge: Bridge, store: SqliteStore
) -> None:
    ask(bridge, talk(bridge), "1")
    held = claim_one(bridge)
    with store.blocked():
        begun = time.monotonic()
        with pytest.raises((BridgeBusy, BridgeUnavailable)):
            settle(bridge, answered(held))
        assert time.monotonic() - begun < LONGEST_CALL_S
    assert settle(bridge, answered(held)).state == "done"
    assert len(bridge.messages.find(session="a")) == 1


# --- leases


def test_an_expired_lease_frees_its_question_and_a_renewed_one_does_not(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    kept, lost = claim(bridge)
    store.clock.now += LEASE
    assert renew(bridge, kept)
    store.clock.now += 1
    (settled,) = bridge.deliveries.reap()
    assert (settled.message_id, settled.state) == (lost.message_id, "ready")
    assert bridge.messages.query_state(lost.message_id).last_error == "the lease expired"
    again = claim_one(bridge)
    assert (again.message_id, again.attempt) == (lost.message_id, 2)
    assert settle(bridge, answered(lost)).state == "lost"
    assert settle(bridge, answered(kept)).state == "done"


def test_a_lease_that_expires_on_the_last_attempt_ends_in_an_error_answer(
    store: SqliteStore,
) -> None:
    bridge = store.open(max_attempts=1)
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    claim_one(bridge)
    store.clock.now += LEASE + 1
    assert [settled.state for settled in bridge.deliveries.reap()] == ["dead"]
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 1 attempt: the lease expired"
    assert claim_one(bridge).text == "2"


def test_a_new_owner_frees_what_the_old_one_held_and_gives_the_attempt_back(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    take_over(bridge, "old")
    taken = claim(bridge, owner="old")
    assert take_over(bridge, "new") == 2
    assert bridge.deliveries.settle([answered(delivery) for delivery in taken], "old") == [
        Settled(message_id=delivery.message_id, state="lost") for delivery in taken
    ]
    again = claim(bridge, owner="new")
    assert [delivery.attempt for delivery in again] == [1, 1]
    assert take_over(bridge, "new") == 0


def test_a_poller_is_shown_with_its_home_for_a_lease_beyond_its_last_sign_of_life(
    bridge: Bridge, store: SqliteStore
) -> None:
    shown = "SELECT owner, home, beat_until-? FROM pollers"

    def left() -> int:
        ((owner, home, span),) = store.foreign(shown, store.clock.now)
        assert (owner, home) == ("me", HOME)
        return int(span)

    take_over(bridge, "before")
    take_over(bridge, "me")
    assert left() == LEASE
    store.clock.now += LEASE // 4
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE * 3 // 4, "nothing is written while more than half of it is left"
    store.clock.now += LEASE // 2
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE
    store.clock.now -= 3_600_000
    bridge.deliveries.renew([], "me", LEASE)
    assert left() == LEASE
    ask(bridge, talk(bridge), "1")
    store.clock.now += 1000
    assert renew(bridge, claim_one(bridge))
    assert left() == LEASE


@pytest.mark.parametrize("before", ["", "\ufeff", "\xa0", "\n"])
@pytest.mark.parametrize("size", [10, 70_000])
def test_an_answer_names_the_question_in_json_however_long_it_is_and_begins(
    bridge: Bridge, before: str, size: int
) -> None:
    ask(bridge, talk(bridge), before + write_query("x" * size, "q-12345678"), metadata=OWN)
    settled = settle(bridge, answered(claim_one(bridge)))
    assert settled.query
    assert settled.query.answer
    assert json.loads(settled.query.answer.text)["query_id"] == "q-12345678"


def test_the_error_answer_of_a_lease_that_expired_names_its_question(store: SqliteStore) -> None:
    bridge = store.open(max_attempts=1)
    take_over(bridge, "me")
    ask(bridge, talk(bridge), write_query("how?", "q-12345678"), metadata=OWN)
    claim_one(bridge)
    store.clock.now += LEASE + 1
    (dead,) = bridge.deliveries.reap()
    assert dead.query
    assert dead.query.answer
    assert json.loads(dead.query.answer.text)["query_id"] == "q-12345678"


def test_more_than_are_settled_at_once_are_settled_in_their_order(bridge: Bridge) -> None:
    numbers = ask(bridge, talk(bridge), *map(str, range(100)), metadata=OWN)
    given = claim(bridge, 100)
    settled = bridge.deliveries.settle([answered(each) for each in reversed(given)], "me")
    assert [each.message_id for each in settled] == numbers[::-1]
    assert {each.state for each in settled} == {"done"}


def test_in_an_embedded_store_the_next_answerer_frees_what_another_home_held(
    store: SqliteStore,
) -> None:
    one = store.open()
    take_over(one, "one", home="a" * 32)
    (mine,) = ask(one, talk(one), "1", metadata=OWN)
    (held,) = claim(one, owner="one")
    store.close()  # there is one answerer, so the one before it is dead, of whatever home it was
    two = store.open()
    assert take_over(two, "two", home="b" * 32) == 1
    (again,) = claim(two, owner="two")
    assert (again.message_id, again.attempt, again.fence) == (mine, 1, held.fence + 1)


def test_what_an_owner_has_claimed_without_knowing_is_released_and_the_rest_is_kept(
    bridge: Bridge,
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", "4", metadata=OWN)
    (others,) = claim(bridge, 1, owner="another")
    known, expired, unknown = claim(bridge)
    settle(bridge, failed(expired))
    (again,) = claim(bridge)
    held = [(known.message_id, known.fence), (expired.message_id, expired.fence)]
    assert bridge.deliveries.release_unconfirmed("me", held) == 2
    assert {(one.message_id, one.fence, one.attempt) for one in claim(bridge)} == {
        (again.message_id, again.fence + 1, 2),
        (unknown.message_id, unknown.fence + 1, 1),
    }
    assert settle(bridge, answered(unknown)).state == "lost"
    assert settle(bridge, answered(known)).state == "done"
    assert settle(bridge, answered(others), owner="another").state == "done"


def test_a_question_that_kills_every_owner_dies_in_the_end(store: SqliteStore) -> None:
    bridge = store.open(max_attempts=3)
    conversation = talk(bridge)
    ask(bridge, conversation, "poison")
    claims = 0
    take_over(bridge, "owner 0")
    while claim(bridge, owner=f"owner {claims}"):
        claims += 1
        take_over(bridge, f"owner {claims}")
    assert claims == 20 + 3
    (message,) = bridge.messages.receive(conversation, "a")
    assert message.text == "No answer after 3 attempts: its poller died"


def test_after_the_clock_was_set_back_nothing_waits_for_the_old_time(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", metadata=OWN)
    failing, held = claim(bridge)
    settle(bridge, failed(failing, 30_000))
    store.clock.now -= 3_600_000
    assert bridge.deliveries.reap() == []
    again = claim_one(bridge)
    assert again.message_id == failing.message_id
    settle(bridge, answered(again))
    assert bridge.messages.query_state(again.message_id).state == "done"
    store.clock.now += LEASE + 1
    assert [settled.message_id for settled in bridge.deliveries.reap()] == [held.message_id]
    assert bridge.overview.latencies_ms() == [0]


def test_a_lane_without_a_head_is_promoted(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2")
    bridge.deliveries.claim("me", {}, LEASE)
    store.foreign("DELETE FROM deliveries WHERE state='ready'")
    assert claim(bridge) == []
    bridge.deliveries.reap()
    assert claim_one(bridge).text == "2"


# --- what foreign programs leave


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"nul\0inside", "nul\0inside"),
        (b"\xed\xa0\x80 lone", "\ufffd\ufffd\ufffd lone"),
        ("\U0001f600 four bytes".encode(), "\U0001f600 four bytes"),
        (b"", ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("kind", ["TEXT", "BLOB"])
def test_whatever_a_foreign_program_wrote_is_delivered_and_answered(
    bridge: Bridge, store: SqliteStore, value: bytes | None, text: str, kind: str
) -> None:
    conversation = talk(bridge)
    store.foreign(
        "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata,timestamp)"
        f" VALUES(?,'a','b',CAST(? AS {kind}),CAST(? AS {kind}),CAST(? AS {kind}))",
        *(conversation, value, value, value),
    )
    delivery = claim_one(bridge)
    assert delivery.text == text
    assert bridge.messages.find()[-1].text == text
    settle(bridge, answered(delivery))
    assert bridge.messages.query_state(delivery.message_id).state == "done"


def test_foreign_rows_of_any_shape_hurt_nobody(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    odd = "INSERT INTO messages(conversation_id,from_session,to_session,message) VALUES(?,?,?,?)"
    store.foreign(odd, conversation, "x", "zz", "for nobody")
    store.foreign(odd, None, None, None, None)
    store.foreign(odd, b"\xff", b"\xff", b"\xff", b"\xff")
    store.foreign(odd, conversation, None, "b", "from nobody")
    store.foreign(odd, "conv_gone", "a", "b", "in no conversation")
    store.foreign("INSERT INTO conversations(id) VALUES(NULL)")
    store.foreign("INSERT INTO conversations VALUES(?,?,?,?,?,?,?)", *[b"\xff"] * 7)
    delivery = claim_one(bridge)
    assert delivery.text == "from nobody"
    settle(bridge, answered(delivery))
    answer = bridge.messages.query_state(delivery.message_id).answer
    assert answer is not None and answer.recipient == "a"
    assert len(bridge.messages.find()) == 6
    assert len(bridge.conversations.all()) == 3


def test_a_message_deleted_before_its_answer_leaves_no_lane_stuck(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    bridge.deliveries.claim("me", {}, LEASE)
    store.foreign("DELETE FROM messages WHERE id=?", first)
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.text) == (first, "")
    assert settle(bridge, failed(delivery, permanent=True)).state == "dead"
    assert claim_one(bridge).message_id == second
    with pytest.raises(NotFound):
        bridge.messages.query_state(first)
    with pytest.raises(NotFound):
        bridge.overview.retry_dead(first)


@pytest.mark.parametrize(
    ("head", "query_id"),
    [('{"query_id": {"deep": [7]}, "question": "', {"deep": [7]}), ('{"question": "', None)],
)
def test_a_message_of_20_mb_is_not_loaded_but_answered_in_its_form(
    bridge: Bridge, store: SqliteStore, head: str, query_id: object
) -> None:
    conversation = talk(bridge)
    insert = (
        "INSERT INTO messages(conversation_id,from_session,to_session,message) VALUES(?,'a','b',?)"
    )
    huge = "x" * 20_000_000
    store.foreign(insert, conversation, head + huge + '"}')
    store.foreign(insert, conversation, huge)
    store.foreign(insert, conversation, '{"broken": ' + huge)
    store.foreign(insert, conversation, '{"type": "response", "answer": "' + huge + '"}')
    for _ in range(3):
        delivery = claim_one(bridge)
        assert delivery.text is None
        settle(bridge, failed(delivery, permanent=True))
    assert claim(bridge) == []
    wrapped, plain, broken = (
        message.text for message in bridge.messages.receive(conversation, "a")
    )
    assert json.loads(wrapped)["query_id"] == query_id
    assert json.loads(wrapped)["answer"] == plain == "it broke"
    assert json.loads(broken)["query_id"] is None


def test_metadata_that_is_no_envelope_says_nothing(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    for metadata in ("[1]", "nonsense", '{"lane": 5}', '{"a":' * 90_000, b"\xff\xfe"):
        store.foreign(
            "INSERT INTO messages(conversation_id,from_session,to_session,message,metadata)"
            " VALUES(?,'a','b','q',?)",
            *(conversation, metadata),
        )
        delivery = claim_one(bridge)
        assert delivery.lane == f"{conversation}/b"
        settle(bridge, answered(delivery))


# --- sending and reading


def test_what_cannot_be_taken_is_refused_as_a_whole(store: SqliteStore) -> None:
    bridge = store.open(max_message=10)
    conversation = talk(bridge)
    with pytest.raises(UsageError, match="too large: 11 bytes"):
        ask(bridge, conversation, "fits", "é" * 5 + "x")
    for metadata in ("[]", "{", "5", '"x"', "[" * 100_000):
        with pytest.raises(UsageError, match="not a JSON object"):
            ask(bridge, conversation, "x", metadata=metadata)
    with pytest.raises(UsageError, match="no session 'c'"):
        bridge.messages.send(conversation, "c", ["x"], [None])
    with pytest.raises(NotFound, match="conv_none"):
        ask(bridge, "conv_none", "x")
    assert bridge.messages.find() == []


def test_what_is_sent_holds_no_secrets_and_no_unreadable_characters(bridge: Bridge) -> None:
    conversation = talk(bridge)
    secret = "ghp_" + "a1B2" * 9
    text = json.dumps({"question": f"is {secret} valid?", "n": 1})
    ask(bridge, conversation, text, "\ud800 \0 \U0001f600", metadata=json.dumps({secret: [secret]}))
    first, second = bridge.messages.find(conversation=conversation)
    assert json.loads(first.text) == {"question": "is [redacted:github-token] valid?", "n": 1}
    redacted = {"[redacted:github-token]": ["[redacted:github-token]"]}
    assert json.loads(first.metadata or "") == redacted
    assert second.text == "\ufffd \ufffd \U0001f600"


def test_redaction_can_be_turned_off(store: SqliteStore) -> None:
    bridge = store.open(redact=False)
    conversation = talk(bridge)
    ask(bridge, conversation, "AKIA" + "Q" * 16)
    assert bridge.messages.find()[0].text == "AKIA" + "Q" * 16


def test_looking_at_messages_consumes_nothing_and_filters(bridge: Bridge) -> None:
    one, two = talk(bridge), talk(bridge)
    ids = ask(bridge, one, *map(str, range(5)))
    ask(bridge, two, '{"type": "query", "question": "q"}')
    bridge.messages.send(two, "b", ["back"], ['{"type": "status"}'])
    assert [message.id for message in bridge.messages.find(conversation=one, limit=2)] == ids[-2:]
    after = bridge.messages.find(conversation=one, after=ids[0], limit=2)
    assert [message.id for message in after] == ids[1:3]
    assert [message.text for message in bridge.messages.find(session="a")] == ["back"]
    assert [message.text for message in bridge.messages.find(kind="status")] == ["back"]
    assert len(bridge.messages.find(kind="text")) == 5
    assert len(bridge.messages.find(kind="query")) == 1
    assert len(bridge.messages.find(unread=True)) == 7
    assert len(bridge.messages.receive(one, "b", limit=3)) == 3
    assert len(bridge.messages.find(unread=True)) == 4
    with pytest.raises(NotFound):
        bridge.messages.find(conversation="conv_none")


def test_two_inboxes_share_the_messages_between_them(store: SqliteStore) -> None:
    one, two = store.open(), store.open()
    conversation = talk(one, None)
    ask(one, conversation, "1", "2")
    assert len(one.messages.receive(conversation, "b", limit=1)) == 1
    assert [message.text for message in two.messages.receive(conversation, "b")] == ["2"]
    with pytest.raises(NotFound):
        one.messages.receive("conv_none", "b")


def test_a_commit_of_another_is_noticed_and_an_own_one_is_not(store: SqliteStore) -> None:
    one, two = store.open(), store.open()
    one.changed()
    conversation = talk(one)
    assert not one.changed()
    ask(two, conversation, "1")
    assert one.changed()
    assert not one.changed()


def test_a_foreign_write_wakes_the_watch(store: SqliteStore) -> None:
    bridge = store.open()
    talk(bridge)
    watch = bridge.watch()
    assert not watch.read()
    (store.path.parent / "other").touch()
    assert not watch.read()
    store.foreign("INSERT INTO messages(message) VALUES('x')")
    assert watch.read()
    assert not watch.read()
    watch.close()
    watch.close()


# --- what is read beyond a number


@pytest.mark.parametrize("what", ["messages", "deliveries", "finished"])
def test_a_row_that_is_committed_late_is_passed_by_nobody_who_reads_beyond_a_number(
    store: SqliteStore, what: str
) -> None:
    reader, slow, quick = (store.open() for _ in range(3))
    conversation = talk(reader)
    ask(reader, conversation, "0", "1", "2", metadata=OWN)
    held = claim(reader)
    settle(reader, answered(held[0]))
    (first,) = reader.overview.finished(0, 10)
    seen: list[int] = []

    def write(bridge: Bridge, number: int) -> None:
        if what == "finished":
            settle(bridge, answered(held[number]))
        else:
            ask(bridge, conversation, f"{number}", metadata=OWN)

    def read() -> None:
        if what == "messages":
            after = max(seen, default=held[-1].message_id)
            seen.extend(each.id for each in reader.messages.find(session="b", after=after))
        elif what == "deliveries":
            seen.extend(each.message_id for each in claim(reader))
        else:
            after = max(seen, default=first.number)
            seen.extend(each.number for each in reader.overview.finished(after, 10))

    again = False
    with store.uncommitted(slow, lambda: write(slow, 1)):
        read()
        try:
            write(quick, 2)
        except BridgeBusy:  # where one writer waits for the other
            again = True
        read()
    read()
    if again:
        write(quick, 2)
    read()
    assert len(set(seen)) == len(seen) == 2


# --- dead letters and numbers


def test_a_dead_letter_is_listed_retried_as_a_new_question_or_dropped(bridge: Bridge) -> None:
    conversation = talk(bridge)
    retried, dropped = ask(bridge, conversation, "1", "2", metadata='{"waiter": "w"}')
    for _ in range(2):
        settle(bridge, failed(claim_one(bridge), permanent=True))
    letters = bridge.overview.dead_letters()
    assert [letter.message_id for letter in letters] == [retried, dropped]
    assert [letter.text for letter in letters] == ["1", "2"]
    assert (letters[0].last_error, letters[0].attempts) == ("it broke", 1)
    new = bridge.overview.retry_dead(retried)
    bridge.overview.drop_dead(dropped)
    assert bridge.overview.dead_letters() == []
    assert bridge.overview.counts()["dead"] == 0
    for gone in (retried, dropped, 999):
        with pytest.raises(NotFound):
            bridge.overview.retry_dead(gone)
        with pytest.raises(NotFound):
            bridge.overview.drop_dead(gone)
    delivery = claim_one(bridge)
    assert (delivery.message_id, delivery.text, delivery.lane) == (new, "1", f"m{new}")
    settle(bridge, answered(delivery))
    assert bridge.messages.query_state(new).state == "done"
    assert bridge.messages.query_state(retried).state == "dead"
    assert bridge.overview.counts()["done"] == 1


def test_the_numbers_tell_what_became_of_the_questions(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", "4", metadata=OWN)
    one, two, three, _ = claim(bridge)
    store.clock.now += 70
    bridge.deliveries.settle([answered(one), failed(two, permanent=True), failed(three, 1)], "me")
    assert bridge.overview.counts() == {"queued": 0, "ready": 1, "leased": 1, "done": 1, "dead": 1}
    assert bridge.overview.latencies_ms() == [70]
    assert bridge.overview.in_flight() == {"main": 1}


def test_an_unknown_query_is_not_found(bridge: Bridge) -> None:
    with pytest.raises(NotFound, match="no message 17"):
        bridge.messages.query_state(17)


def test_many_queries_are_looked_at_at_once_as_each_is_by_itself(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second, third = ask(bridge, conversation, "one", "two", "three", metadata=OWN)
    one, two, _ = claim(bridge)
    bridge.deliveries.settle([answered(one), failed(two, 1)], "me")
    looked = {
        state.message_id: state
        for state in bridge.messages.query_states([first, 17_000, third, second])
    }
    assert looked == {
        number: bridge.messages.query_state(number) for number in (first, second, third)
    }
    assert looked[first].answer and not looked[second].answer
    assert bridge.messages.query_states([]) == []


# --- conversations and access


def test_a_token_proves_its_session(bridge: Bridge) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    assert bridge.conversations.authenticate(tokens.conversation, tokens.b) == "b"


def test_tokens_are_stored_as_hashes_that_open_nothing(bridge: Bridge, store: SqliteStore) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    ((stored, expires),) = store.foreign("SELECT session_a_token, expires_at FROM conversations")
    assert stored.startswith("sha256$") and tokens.a not in stored
    assert "+" not in expires and "Z" not in expires
    for presented in (stored, stored.removeprefix("sha256$")):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, presented)


@pytest.mark.parametrize(
    "token",
    ["", "0" * 64, "é" * 64, "\ud800", "\0", "x", "A" * 64, "٣" * 64, "0" * 65, "0" * 10**6],
)
def test_a_wrong_or_malformed_token_is_denied(bridge: Bridge, token: str) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    with pytest.raises(AccessDenied) as denied:
        bridge.conversations.authenticate(tokens.conversation, token)
    assert not token or token == "x" or token not in str(denied.value)


def test_a_clear_token_of_a_legacy_program_is_accepted(bridge: Bridge, store: SqliteStore) -> None:
    insert = "INSERT INTO conversations VALUES('conv_l','r','r',?,?,'2020-01-01T00:00:00',?)"
    store.foreign(insert, "1" * 64, "secret", "2999-01-01T00:00:00")
    assert bridge.conversations.authenticate("conv_l", "1" * 64) == "a"
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate("conv_l", "secret")


def test_rotation_and_revocation_end_the_old_token_at_once(
    bridge: Bridge, store: SqliteStore
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    new = bridge.conversations.rotate_token(tokens.conversation, "a")
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate(tokens.conversation, tokens.a)
    assert bridge.conversations.authenticate(tokens.conversation, new) == "a"
    bridge.conversations.revoke_token(tokens.conversation, "a")
    ((stored,),) = store.foreign("SELECT session_a_token FROM conversations")
    for token in (new, stored, stored.removeprefix("revoked$")):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, token)
    assert bridge.conversations.authenticate(tokens.conversation, tokens.b) == "b"
    assert bridge.conversations.get(tokens.conversation).revoked == ["a"]
    with pytest.raises(NotFound):
        bridge.conversations.rotate_token("conv_none", "a")
    with pytest.raises(UsageError):
        bridge.conversations.revoke_token(tokens.conversation, "a_token=''--")


def test_a_token_in_use_lives_on_and_an_idle_one_expires(store: SqliteStore) -> None:
    bridge = store.open(token_lifetime_s=1000.0)
    tokens = bridge.conversations.create("asker", "shard")
    for _ in range(5):
        store.clock.now += 700_000
        assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    store.clock.now += 1_000_000
    with pytest.raises(AccessDenied, match="expired"):
        bridge.conversations.authenticate(tokens.conversation, tokens.a)


def test_whoever_keeps_a_token_can_renew_it_and_nobody_can_renew_a_revoked_one(
    store: SqliteStore,
) -> None:
    bridge = store.open(token_lifetime_s=1000.0)
    tokens = bridge.conversations.create("asker", "shard")

    def expiry() -> str:
        ((expires,),) = store.foreign("SELECT expires_at FROM conversations")
        return str(expires)

    made = expiry()
    store.clock.now += 400_000
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert expiry() == made, "nothing is written while more than half of it is left"
    store.clock.now += 200_000
    assert not bridge.conversations.renew_token(tokens.conversation, "0" * 64)
    assert expiry() == made
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert expiry() > made
    store.clock.now += 31 * DAY_MS
    assert bridge.conversations.renew_token(tokens.conversation, tokens.a)
    assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    bridge.conversations.revoke_token(tokens.conversation, "a")
    store.clock.now += 31 * DAY_MS
    assert not bridge.conversations.renew_token(tokens.conversation, tokens.a)
    with pytest.raises(AccessDenied, match="expired"):
        bridge.conversations.authenticate(tokens.conversation, tokens.b)
    with pytest.raises(NotFound):
        bridge.conversations.renew_token("conv_none", tokens.a)


MOVES_MS = (DAY_MS, 31 * DAY_MS, 365 * DAY_MS, -3_600_000)


@pytest.mark.parametrize("moved", MOVES_MS)
def test_wherever_the_clock_is_moved_every_operation_does_what_it_did(
    store: SqliteStore, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, real = store.clock.now, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + (store.clock.now - start) * 1_000_000)
    bridge = store.open(rate_per_s=1.0, rate_burst=6)
    take_over(bridge, "me")
    tokens = bridge.conversations.create("asker", "shard")
    name = tokens.conversation
    bridge.conversations.serve(name, "b", "main")
    ids = ask(bridge, name, "held?", "failing?", "waiting?", metadata=OWN)
    held, failing = claim(bridge, count=2)
    settle(bridge, failed(failing, 30_000))
    key = IdempotencyKey(scope="s", name="once", digest=b"d")
    keyed = stored(once(bridge, name, "keyed?", key)).id
    bridge.conversations.set_status(name, "a", "here")
    bridge.conversations.announce()

    store.clock.now += moved

    # Who holds a lease and renews it first loses it to nobody, and settles under it.
    assert renew(bridge, held)
    assert bridge.deliveries.reap() == []
    settle(bridge, answered(held))
    # Nothing that waits waits for the old time, and the budget is never shut for as long as a step.
    assert {each.message_id for each in claim(bridge)} == {failing.message_id, ids[2], keyed}
    for _ in range(2):
        try:
            ask(bridge, name, "more?", metadata=OWN)
        except RateLimited as error:
            assert error.wait_ms <= 1000
            store.clock.now += error.wait_ms
            ask(bridge, name, "more?", metadata=OWN)
    again = stored(once(bridge, name, "keyed?", key))
    assert again.fresh == (moved >= DAY_MS), "a key is remembered for a day"
    # What is shown is never below nothing, and who gave a sign of life now is alive.
    assert bridge.conversations.presence(name, "a").age_s == pytest.approx(
        max(0.0, moved / 1000), abs=60
    )
    bridge.conversations.announce()
    assert bridge.conversations.presence(name, "b").alive
    bridge.conversations.set_status(name, "a", "here")
    shown = bridge.conversations.presence(name, "a")
    assert shown.alive and shown.age_s is not None and 0 <= shown.age_s < 60
    assert min(bridge.overview.latencies_ms()) >= 0
    assert all(each.latency_ms >= 0 for each in bridge.overview.finished(0, 100))
    assert {each.state for each in bridge.overview.backlog()} == {"leased", "sent"}
    # A token is renewed by whoever keeps it, opens, and can be replaced and revoked.
    assert (
        bridge.conversations.renew_token(name, tokens.a)
        and bridge.conversations.authenticate(name, tokens.a) == "a"
    )
    assert bridge.conversations.find_by_token(tokens.b) == name
    assert (
        bridge.conversations.authenticate(name, bridge.conversations.rotate_token(name, "b")) == "b"
    )
    bridge.conversations.audit_denial(name, "wrong token")
    # The next owner frees whatever is held, and nothing else becomes of it.
    assert take_over(bridge, "the next") == 3
    for each in claim(bridge, owner="the next"):
        assert each.attempt == (2 if each.message_id == failing.message_id else 1)
        settle(bridge, answered(each), "the next")
    counts = bridge.overview.counts()
    assert counts["dead"] == counts["leased"] == counts["ready"] == counts["queued"] == 0


@pytest.mark.parametrize(
    ("expires", "opens"),
    [
        (None, True),
        ("2999-01-01T00:00:00+02:00", True),
        ("2001-01-01 00:00:00", False),
        ("someday", False),
        (b"\xff", False),
    ],
)
def test_an_odd_expiry_never_opens_more_than_it_says(
    bridge: Bridge, store: SqliteStore, expires: object, opens: bool
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    store.foreign("UPDATE conversations SET expires_at=?", expires)
    if opens:
        assert bridge.conversations.authenticate(tokens.conversation, tokens.a) == "a"
    else:
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, tokens.a)


def test_failed_authentications_are_audited_and_cannot_flood_the_log(
    bridge: Bridge, store: SqliteStore
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    for round_ in range(200):
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, f"{round_:064x}")
        with pytest.raises(NotFound):
            bridge.conversations.authenticate(f"conv_{round_}", tokens.a)
    denied = "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
    (known, unknown) = store.foreign(denied)
    assert known[0] == tokens.conversation and unknown[0] is None
    assert json.loads(known[1]) == {"why": "wrong token", "count": 10, "or_more": True}
    store.clock.now += 61_000
    with pytest.raises(AccessDenied):
        bridge.conversations.authenticate(tokens.conversation, "x")
    assert len(store.foreign(denied)) == 3


def test_the_rate_budget_is_shared_and_refills(store: SqliteStore) -> None:
    one = store.open(rate_per_s=10.0, rate_burst=5)
    two = store.open(rate_per_s=10.0, rate_burst=5)
    conversation = talk(one)

    def send(bridge: Bridge, session: str, count: int) -> None:
        bridge.messages.send(conversation, session, ["x"] * count, [None] * count)

    send(one, "a", 3)
    send(two, "a", 2)
    with pytest.raises(RateLimited) as limited:
        send(one, "a", 1)
    assert 100 <= limited.value.wait_ms <= 101
    send(one, "b", 5)
    store.clock.now += limited.value.wait_ms
    send(two, "a", 1)
    with pytest.raises(RateLimited):
        send(one, "a", 1)
    store.clock.now -= 3_600_000
    send(one, "a", 5)
    with pytest.raises(RateLimited):
        send(one, "a", 1)
    with pytest.raises(UsageError):
        send(one, "a", 6)
    assert len(one.messages.find()) == 3 + 2 + 5 + 1 + 5, "what is refused is not stored"


def test_conversations_are_listed_without_tokens(bridge: Bridge, store: SqliteStore) -> None:
    first = bridge.conversations.create("asker", "memory \ud800")
    store.clock.now += 1
    second = bridge.conversations.create("asker", "reviewer")
    bridge.conversations.serve(second.conversation, "b", "main")
    ask(bridge, second.conversation, "1", "2")
    one, two = bridge.conversations.all()
    assert (one.id, one.role_b, one.served, one.messages) == (
        first.conversation,
        "memory \ufffd",
        {},
        0,
    )
    assert (two.served, two.messages, two.revoked) == ({"b": "main"}, 2, [])
    assert bridge.conversations.get(second.conversation) == two
    for token in (first.a, first.b, second.a, second.b):
        assert token not in repr((one, two))
    with pytest.raises(NotFound):
        bridge.conversations.get("conv_none")


def test_an_audit_line_is_json_without_secrets(bridge: Bridge, store: SqliteStore) -> None:
    bridge.conversations.audit(None, None, "looked", "AKIA" + "Q" * 16)
    bridge.conversations.audit("c", "a", "looked", '{"key": "AKIA' + "Q" * 16 + '"}')
    rows = store.foreign("SELECT details FROM audit_log")
    assert [json.loads(details) for (details,) in rows] == [
        {"text": "[redacted:aws-key]"},
        {"key": "[redacted:aws-key]"},
    ]


def test_serving_an_unknown_conversation_is_refused(bridge: Bridge) -> None:
    with pytest.raises(NotFound):
        bridge.conversations.serve("conv_none", "b", "main")


# --- the whole, against a model


class Model:
    """What must be true of every lane, whatever happens: in order, one at a time, one answer."""

    def __init__(self, store: SqliteStore, max_attempts: int) -> None:
        self.store = store
        self.bridges = [store.open(max_attempts=max_attempts) for _ in range(2)]
        self.talks = [talk(self.bridges[0]) for _ in range(3)]
        self.waiting: dict[str, list[int]] = {}
        self.arrived: dict[Arrival, int] = {}
        self.held: dict[int, Delivery] = {}
        self.stale: list[tuple[Delivery, str]] = []
        self.finished: dict[int, str] = {}
        self.owner = ""
        self.over()

    def step(self, chance: random.Random) -> None:
        bridge = chance.choice(self.bridges)
        match chance.choice(
            [
                "ask",
                "claim",
                "claim",
                "turn",
                "settle",
                "settle",
                "stale",
                "late",
                "over",
            ]
        ):
            case "ask":
                conversation, own = chance.choice(self.talks), chance.random() < 0.3
                for asked in ask(
                    bridge, conversation, *"?" * chance.randint(1, 3), metadata=OWN if own else None
                ):
                    lane = f"m{asked}" if own else f"{conversation}/b"
                    self.waiting.setdefault(lane, []).append(asked)
            case "claim":
                self.hold(claim(bridge, chance.randint(0, 4), owner=self.owner))
            case "turn":
                arrivals = [self.arrival(chance) for _ in range(chance.randint(0, 3))]
                held = chance.sample(list(self.held.values()), len(self.held) // 2)
                outcomes = [answered(each) for each in held]
                room = {"main": chance.randint(0, 4)}
                stored, settled, taken = bridge.deliveries.commit_turn(
                    arrivals, outcomes, self.owner, room, LEASE
                )
                self.keep(arrivals, stored)
                for delivery, one in zip(held, settled, strict=True):
                    self.note(delivery, one)
                self.hold(taken)
            case "settle" if self.held:
                for delivery in chance.sample(list(self.held.values()), len(self.held)):
                    wait = chance.choice([0, 300])
                    choices = [answered(delivery), failed(delivery, wait), released(delivery)]
                    self.note(delivery, settle(bridge, chance.choice(choices), self.owner))
            case "stale" if self.stale:
                stale, owner = chance.choice(self.stale)
                became = self.finished.get(stale.message_id, "ready")
                before = bridge.messages.query_state(stale.message_id)
                assert settle(bridge, answered(stale), owner).state in ("lost", became)
                assert bridge.messages.query_state(stale.message_id) == before
            case "late":
                self.store.clock.now += chance.choice([200, LEASE // 2, LEASE + 1])
                for settled in bridge.deliveries.reap():
                    self.note(self.held[settled.message_id], settled)
            case "over" if chance.random() < 0.3:
                self.over()

    def arrival(self, chance: random.Random) -> Arrival:
        """Return a question as it arrives, perhaps one that was stored by an earlier try."""
        if self.arrived and chance.random() < 0.3:
            return msgspec.structs.replace(chance.choice(list(self.arrived)), repeated=True)
        own = OWN if chance.random() < 0.3 else None
        return arrival(chance.choice(self.talks), "?", metadata=own)

    def keep(self, arrivals: list[Arrival], stored: list[Stored]) -> None:
        """Note what has become of arrivals, of which each is stored once."""
        for arrived, one in zip(arrivals, stored, strict=True):
            assert isinstance(one, SentMessage)
            first = msgspec.structs.replace(arrived, repeated=False)
            assert one.fresh == (first not in self.arrived)
            assert self.arrived.setdefault(first, one.id) == one.id
            if one.fresh:
                lane = f"m{one.id}" if arrived.metadata else f"{arrived.conversation}/b"
                self.waiting.setdefault(lane, []).append(one.id)

    def over(self) -> None:
        self.stale += [(delivery, self.owner) for delivery in self.held.values()]
        self.owner += "'"
        assert take_over(self.bridges[0], self.owner) == len(self.held)
        self.held.clear()

    def hold(self, taken: list[Delivery]) -> None:
        for delivery in taken:
            assert delivery.message_id == self.waiting[delivery.lane][0], "out of order"
            assert delivery.message_id not in self.held, "handed out twice"
            self.held[delivery.message_id] = delivery

    def note(self, delivery: Delivery, settled: Settled) -> None:
        assert settled.state in ("done", "ready", "dead")
        self.stale.append((self.held.pop(delivery.message_id), self.owner))
        if settled.state != "ready":
            assert self.waiting[delivery.lane].pop(0) == delivery.message_id
            self.finished[delivery.message_id] = settled.state

    def finish(self) -> None:
        bridge = self.bridges[0]
        while any(self.waiting.values()):
            self.store.clock.now += LEASE + 1
            for settled in bridge.deliveries.reap():
                self.note(self.held[settled.message_id], settled)
            for delivery in claim(bridge, 99, owner=self.owner):
                assert delivery.message_id == self.waiting[delivery.lane][0]
                self.held[delivery.message_id] = delivery
                self.note(delivery, settle(bridge, answered(delivery), self.owner))
        for asked, state in self.finished.items():
            assert bridge.messages.query_state(asked).state == state
        answers = self.store.foreign("SELECT count(*) FROM messages WHERE from_session='b'")
        assert answers == [(len(self.finished),)]
        counts = bridge.overview.counts()
        assert counts["done"] + counts["dead"] == sum(counts.values()) == len(self.finished)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), engine=st.sampled_from(sorted(ENGINES)))
def test_whatever_happens_lanes_keep_their_order_and_every_question_its_one_answer(
    tmp_path_factory: pytest.TempPathFactory, seed: int, engine: str
) -> None:
    store = ENGINES[engine](tmp_path_factory.mktemp("model"))
    model, chance = Model(store, max_attempts=3), random.Random(seed)
    for _ in range(60):
        model.step(chance)
    model.finish()
    store.close()


def test_only_one_bridge_is_the_answerer_until_it_closes(store: SqliteStore) -> None:
    first, second = store.open(), store.open()
    take_over(first, "one")
    with pytest.raises(AlreadyRunning):
        take_over(second, "two")
    first.close()
    assert take_over(second, "two") == 0


def test_a_served_session_is_announced_as_alive_to_legacy_partners(store: SqliteStore) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "shard").conversation
    bridge.conversations.serve(conversation, "b", "main")
    for _ in range(2):
        bridge.conversations.announce()
    ((session, status, at),) = store.foreign(
        "SELECT session_id, status, last_heartbeat FROM session_status"
    )
    assert (session, status) == ("b", "active")
    assert datetime.fromisoformat(at).tzinfo is None


def test_a_status_is_seen_by_the_partner_and_by_legacy_programs(store: SqliteStore) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "reviewer").conversation
    assert bridge.conversations.presence(conversation, "a") == Presence(
        session="a", status="unknown", at=None, age_s=None, alive=False
    )
    for status in ("working", "blocked"):
        bridge.conversations.set_status(conversation, "a", status)
    seen = bridge.conversations.presence(conversation, "a")
    assert (seen.status, seen.alive) == ("blocked", True)
    assert store.foreign("SELECT session_id, status, last_heartbeat FROM session_status") == [
        ("a", "blocked", seen.at)
    ]
    assert seen.at is not None
    assert datetime.fromisoformat(seen.at).tzinfo is None


@pytest.mark.parametrize(
    ("at", "alive"),
    [("2020-01-01T00:00:00", False), ("never", False), ("2999-01-01T00:00:00", True)],
)
def test_only_a_fresh_sign_of_life_counts(store: SqliteStore, at: str, alive: bool) -> None:
    bridge = store.open()
    conversation = bridge.conversations.create("asker", "reviewer").conversation
    store.foreign("INSERT INTO session_status VALUES (?, 'b', 'waiting', ?)", conversation, at)
    assert bridge.conversations.presence(conversation, "b").alive == alive


def test_there_is_no_status_without_a_conversation(store: SqliteStore) -> None:
    bridge = store.open()
    with pytest.raises(NotFound):
        bridge.conversations.set_status("conv_0000000000000000", "a", "working")
    with pytest.raises(NotFound):
        bridge.conversations.presence("conv_0000000000000000", "a")


# --- what it costs

USED = Usage(input_tokens=100, output_tokens=20, cached_tokens=3000, cost_usd=0.5)
UNPRICED = Usage(input_tokens=1, output_tokens=2)


def costing(outcome: Outcome, usage: Usage) -> Outcome:
    return msgspec.structs.replace(outcome, usage=usage)


def test_what_an_answer_has_cost_stands_in_its_metadata(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (asked, other) = ask(bridge, conversation, "why?", "how?")
    settle(bridge, costing(answered(claim_one(bridge)), USED))
    answer = bridge.messages.query_state(asked).answer
    assert answer and json.loads(answer.metadata or "")["usage"] == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 3000,
        "cost_usd": 0.5,
    }
    settle(bridge, answered(claim_one(bridge)))
    answer = bridge.messages.query_state(other).answer
    assert answer and "usage" not in json.loads(answer.metadata or "")


def test_what_shards_cost_is_added_up_by_utc_day(store: SqliteStore) -> None:
    bridge = store.open()
    assert bridge.overview.spent("2027-01-15") == {}
    conversation, other = talk(bridge), talk(bridge, "other")
    ask(bridge, conversation, *"abcd")
    ask(bridge, other, "x")
    settle(bridge, costing(answered(claim_one(bridge)), UNPRICED))
    assert bridge.overview.spent("2027-01-15") == {
        "main": Spent(input_tokens=1, output_tokens=2, answers=1)
    }
    settle(bridge, costing(answered(claim_one(bridge)), USED))
    settle(bridge, answered(claim_one(bridge)))
    others = costing(answered(claim(bridge, shard="other")[0]), USED)
    bridge.deliveries.commit_turn([], [others], "me", {}, LEASE)
    assert bridge.overview.spent("2027-01-15") == {
        "main": Spent(
            input_tokens=101, output_tokens=22, cached_tokens=3000, cost_usd=0.5, answers=2
        ),
        "other": Spent(
            input_tokens=100, output_tokens=20, cached_tokens=3000, cost_usd=0.5, answers=1
        ),
    }
    store.clock.now += 16 * 3600_000  # 08:00 became midnight
    settle(bridge, costing(answered(claim_one(bridge)), UNPRICED))
    assert bridge.overview.spent("2027-01-16") == {
        "main": Spent(input_tokens=1, output_tokens=2, answers=1)
    }


def test_what_failed_has_cost_all_the_same(store: SqliteStore) -> None:
    bridge = store.open()
    (asked,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, costing(failed(claim_one(bridge)), USED))
    settle(bridge, costing(released(claim_one(bridge)), USED))
    late = claim_one(bridge)
    store.clock.now += LEASE + 1
    bridge.deliveries.reap()
    settle(bridge, costing(failed(claim_one(bridge), permanent=True), USED))
    assert settle(bridge, costing(answered(late), USED)).state == "lost"
    assert bridge.overview.spent("2027-01-15")["main"] == Spent(
        input_tokens=400, output_tokens=80, cached_tokens=12000, cost_usd=2.0, answers=0
    )
    answer = bridge.messages.query_state(asked).answer
    assert answer and json.loads(answer.metadata or "")["usage"]["cached_tokens"] == 3000


def test_a_batch_that_is_not_kept_costs_nothing(store: SqliteStore) -> None:
    bridge = store.open()
    ask(bridge, talk(bridge), "why?")
    delivery = claim_one(bridge)
    store.foreign("CREATE TRIGGER no BEFORE INSERT ON answers BEGIN SELECT raise(ABORT, 'no'); END")
    assert settle(bridge, costing(answered(delivery), USED)).state == "lost"
    assert bridge.overview.spent("2027-01-15") == {}
    store.foreign("DROP TRIGGER no")
    settle(bridge, costing(answered(delivery), USED))
    assert bridge.overview.spent("2027-01-15")["main"].answers == 1


# --- lists of large messages


def test_dead_letters_are_shown_in_short_and_one_by_one(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "first" * 10, "second" * 10, metadata=OWN)
    first, second = claim(bridge)
    bridge.deliveries.settle([failed(first, permanent=True), failed(second, permanent=True)], "me")
    assert [each.text for each in bridge.overview.dead_letters(text_bytes=7)] == [
        "firstfi",
        "seconds",
    ]
    [only] = bridge.overview.dead_letters(message_id=second.message_id)
    assert (only.message_id, only.text) == (second.message_id, "second" * 10)
    assert bridge.overview.dead_letters(message_id=10**9) == []


def test_a_list_ends_where_it_would_take_too_much_memory(bridge: Bridge) -> None:
    conversation = talk(bridge, shard=None)
    large = "x" * (6 << 20)
    ids = [ask(bridge, conversation, large)[0] for _ in range(5)]
    newest = bridge.messages.find(conversation=conversation)
    assert [each.id for each in newest] == ids[2:]
    assert [each.id for each in bridge.messages.find(after=ids[0])] == ids[1:4]
    taken = bridge.messages.receive(conversation, "b")
    assert [each.id for each in taken] == ids[:3]
    assert [each.id for each in bridge.messages.receive(conversation, "b")] == ids[3:]
    assert bridge.messages.receive(conversation, "b") == []


# --- keys


def key(name: str = "k", digest: bytes = b"1", scope: str = "me") -> IdempotencyKey:
    return IdempotencyKey(scope=scope, name=name, digest=digest)


def test_what_is_sent_twice_under_a_key_is_there_once(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    again = stored(once(bridge, conversation, "one", key()))
    assert (again.id, again.fresh, first.fresh) == (first.id, False, True)
    assert [each.message_id for each in claim(bridge)] == [first.id]


def test_a_key_that_stands_for_another_message_is_refused(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    refused = once(bridge, conversation, "two", key(digest=b"2"))
    assert isinstance(refused, KeyReused) and "another message" in refused.what
    other = stored(once(bridge, conversation, "two", key(digest=b"2", scope="you")))
    assert other.fresh and other.id != first.id
    assert len(bridge.messages.find(conversation=conversation)) == 2


def test_a_key_is_not_kept_when_its_message_is_refused(store: SqliteStore) -> None:
    bridge = store.open(rate_per_s=1, rate_burst=1)
    conversation = talk(bridge)
    ask(bridge, conversation, "spent")
    assert isinstance(once(bridge, conversation, "one", key()), RateLimited)
    store.clock.now += 2000
    assert stored(once(bridge, conversation, "one", key())).fresh
    store.clock.now += 1
    assert not stored(once(bridge, conversation, "one", key())).fresh, "repeating is free"


def test_a_key_is_forgotten_after_a_day(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "one", key()))
    store.clock.now += 24 * 3600 * 1000 - 1
    assert not stored(once(bridge, conversation, "one", key())).fresh
    store.clock.now += 1
    assert stored(once(bridge, conversation, "one", key())).id != first.id
    store.clock.now += 25 * 3600 * 1000
    once(bridge, conversation, "two", key("other"))
    assert store.foreign("SELECT name FROM keys") == [("other",)]


# --- questions that arrive at the poller


def turn(bridge: Bridge, *arrivals: Arrival, count: int = 10, **given: Any) -> CommittedTurn:
    outcomes = given.pop("outcomes", [])
    return bridge.deliveries.commit_turn(arrivals, outcomes, "me", {"main": count}, LEASE)


def test_what_arrives_is_stored_enrolled_and_leased_in_one_commit(bridge: Bridge) -> None:
    conversation = talk(bridge)
    arrived = [arrival(conversation, f"{number}") for number in range(3)]
    committed = turn(bridge, *arrived, count=2)
    numbers = [stored(one).id for one in committed.stored]
    assert [stored(one).fresh for one in committed.stored] == [True] * 3
    assert [(one.message_id, one.text, one.fence) for one in committed.claimed] == [
        (number, one.text, 1) for number, one in zip(numbers[:2], arrived, strict=False)
    ]
    states = [bridge.messages.query_state(number).state for number in numbers]
    assert states == ["leased", "leased", "ready"]
    assert bridge.messages.receive(conversation, "b") == [], "no other reader may take it"
    settled = turn(bridge, outcomes=[answered(one) for one in committed.claimed])
    assert [one.state for one in settled.settled] == ["done", "done"]
    assert [one.message_id for one in settled.claimed] == [numbers[2]]


def test_what_arrives_waits_behind_what_was_in_the_store_before_it(bridge: Bridge) -> None:
    conversation = talk(bridge)
    (before,) = ask(bridge, conversation, "before")
    committed = turn(bridge, arrival(conversation, "after", metadata=None))
    assert [one.message_id for one in committed.claimed] == [before]
    [number] = [stored(one).id for one in committed.stored]
    assert bridge.messages.query_state(number).state == "queued"
    after = turn(bridge, outcomes=[answered(committed.claimed[0])])
    assert [one.message_id for one in after.claimed] == [number]


def test_what_arrives_overtakes_nothing_that_is_too_much_to_be_enrolled_in_one_turn(
    bridge: Bridge,
) -> None:
    others, conversation = talk(bridge), talk(bridge)
    ask(bridge, others, *map(str, range(1500)))
    (before,) = ask(bridge, conversation, "before")
    committed = turn(bridge, arrival(conversation, "after", metadata=None), count=2000)
    [after] = [stored(one).id for one in committed.stored]
    claimed = [one.message_id for one in committed.claimed]
    while before not in claimed:
        assert after not in claimed
        claimed += [one.message_id for one in turn(bridge, count=2000).claimed]
    assert after not in claimed
    assert bridge.messages.query_state(after).state == "queued"


def test_each_arrival_is_refused_on_its_own_merits(store: SqliteStore) -> None:
    bridge = store.open(rate_per_s=1, rate_burst=3, max_message=2000)
    conversation = talk(bridge)
    committed = turn(
        bridge,
        arrival(conversation, "fine"),
        arrival(conversation, "x" * 3000),
        arrival("conv_0000000000000000", "to nobody"),
        arrival(conversation, "in whose name?", session="c"),
        arrival(conversation, "odd", metadata="[]"),
        arrival(conversation, "of no name", query_id=""),
        arrival(conversation, "fine too"),
    )
    kinds = [type(one) for one in committed.stored]
    assert kinds == [
        SentMessage, UsageError, NotFound, UsageError, UsageError, UsageError, SentMessage,
    ]  # fmt: skip
    assert len(committed.claimed) == len(bridge.messages.find(conversation=conversation)) == 2
    some = turn(bridge, *[arrival(conversation, f"{number}") for number in range(3)]).stored
    assert [type(one) for one in some] == [SentMessage, RateLimited, RateLimited]


def test_what_arrives_for_a_session_that_nobody_serves_waits_unread(bridge: Bridge) -> None:
    conversation = talk(bridge, shard=None)
    committed = turn(bridge, arrival(conversation, "hello?"))
    [number] = [stored(one).id for one in committed.stored]
    assert committed.claimed == []
    assert bridge.messages.query_state(number).state == "sent"
    bridge.conversations.serve(conversation, "b", "main")
    assert [one.message_id for one in turn(bridge).claimed] == [number]


def test_secrets_are_redacted_of_what_arrives(bridge: Bridge) -> None:
    conversation = talk(bridge)
    secret = "ghp_" + "a1B2" * 9
    [delivery] = turn(bridge, arrival(conversation, f"is {secret} fine?")).claimed
    assert secret not in (delivery.text or "")
    assert secret not in bridge.messages.find()[0].text


@pytest.mark.parametrize("by_poller", [True, False])
def test_a_question_whose_first_try_was_stored_is_not_stored_again(
    bridge: Bridge, by_poller: bool
) -> None:
    conversation = talk(bridge)
    asked = arrival(conversation, "once?")
    [first] = turn(bridge, asked).stored
    repeated = msgspec.structs.replace(asked, repeated=True)
    tried = [repeated, arrival(conversation, "another", repeated=True)]
    again = turn(bridge, *tried).stored if by_poller else bridge.messages.store(tried)
    assert (stored(again[0]).id, stored(again[0]).fresh) == (stored(first).id, False)
    assert stored(again[1]).fresh
    assert len(bridge.messages.find(conversation=conversation)) == 2


def test_a_question_that_arrives_late_is_looked_for_in_the_store(bridge: Bridge) -> None:
    conversation = talk(bridge)
    asked = arrival(conversation, "once?")
    [direct] = bridge.messages.store([msgspec.structs.replace(asked, repeated=True)])
    late = msgspec.structs.replace(asked, sent_at=asked.sent_at - SURE_S)
    committed = turn(bridge, late, late)
    assert [(stored(one).id, stored(one).fresh) for one in committed.stored] == [
        (stored(direct).id, False)
    ] * 2
    assert [one.message_id for one in committed.claimed] == [stored(direct).id]


def test_the_same_name_in_another_conversation_is_another_question(bridge: Bridge) -> None:
    one, other = talk(bridge), talk(bridge)
    named = {"query_id": "q-0123456789abcdef", "repeated": True}
    both = [stored(each) for each in bridge.messages.store([arrival(one, "?", **named)])]
    both += [stored(each) for each in bridge.messages.store([arrival(other, "?", **named)])]
    assert [each.fresh for each in both] == [True, True]


def test_an_arrival_that_the_store_refuses_keeps_no_other_from_being_stored(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    store.foreign(
        "CREATE TRIGGER odd BEFORE INSERT ON messages WHEN instr(NEW.message,'odd') BEGIN"
        " SELECT RAISE(ABORT,'odd is refused'); END"
    )
    arrived = [arrival(conversation, text) for text in ("one", "odd", "two")]
    committed = turn(bridge, *arrived)
    kinds = [type(one) for one in committed.stored]
    assert kinds == [SentMessage, RowRefused, SentMessage]
    assert [one.text for one in committed.claimed] == [arrived[0].text, arrived[2].text]
    direct = bridge.messages.store([arrival(conversation, text) for text in ("odd", "three")])
    assert [type(one) for one in direct] == [RowRefused, SentMessage]


def test_what_a_settle_says_of_a_question_is_what_the_store_says(bridge: Bridge) -> None:
    conversation = talk(bridge)
    numbers = ask(bridge, conversation, "1", '{"type":"query","question":"2"}', metadata=OWN)
    first, second = claim(bridge)
    outcomes = [failed(first, 0), answered(second, "é \ud83d\ude00 '\"")]
    for settled in bridge.deliveries.settle(outcomes, "me"):
        assert settled.query == _without_time(bridge.messages.query_state(settled.message_id))
    [again] = claim(bridge)
    [settled] = bridge.deliveries.settle([failed(again, 0, permanent=True)], "me")
    assert settled.query == _without_time(bridge.messages.query_state(numbers[0]))


def _without_time(state: QueryState) -> QueryState:
    if state.answer is None:
        return state
    return msgspec.structs.replace(
        state, answer=msgspec.structs.replace(state.answer, timestamp="")
    )


# --- who a token belongs to, and who was refused


def test_a_token_leads_to_its_conversation_and_a_foreign_one_does_not(
    bridge: Bridge, store: SqliteStore
) -> None:
    tokens = bridge.conversations.create("asker", "shard")
    assert (
        bridge.conversations.find_by_token(tokens.a)
        == bridge.conversations.find_by_token(tokens.b)
        == tokens.conversation
    )
    clear = "ab" * 32
    store.foreign("UPDATE conversations SET session_a_token=?", clear)
    stored = store.foreign("SELECT session_b_token FROM conversations")[0][0]
    for token in (clear, tokens.a, stored, "", "x", "é" * 64):
        assert bridge.conversations.find_by_token(token) is None
    assert bridge.conversations.authenticate(tokens.conversation, clear) == "a"


def test_refusals_are_audited_a_line_a_minute_for_each_reason(
    bridge: Bridge, store: SqliteStore
) -> None:
    conversation = talk(bridge)
    for _ in range(50):
        bridge.conversations.audit_denial(conversation, "a question of another conversation")
        bridge.conversations.audit_denial(None, "wrong Host")
        bridge.conversations.audit_denial(None, "body too large")
    lines = store.foreign(
        "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
    )
    whys = [(where, json.loads(details)["why"]) for where, details in lines]
    assert whys == [
        (conversation, "a question of another conversation"),
        (None, "wrong Host"),
        (None, "body too large"),
    ]


# --- what is counted


def test_the_backlog_tells_what_waits_for_whom_and_since_when(
    bridge: Bridge, store: SqliteStore
) -> None:
    main, other = talk(bridge), talk(bridge, "other")
    ask(bridge, main, "1", "2", "3", metadata=OWN)
    ask(bridge, other, "4", "5")
    start = store.clock.now
    claim(bridge, 1)
    store.clock.now += 100
    ask(bridge, main, "6")
    found = {(each.shard, each.state): each for each in bridge.overview.backlog()}
    counts = {which: each.count for which, each in found.items()}
    assert counts == {
        ("main", "leased"): 1, ("main", "ready"): 2, ("main", "sent"): 1,
        ("other", "ready"): 1, ("other", "queued"): 1,
    }  # fmt: skip
    assert found["main", "ready"].oldest_at == start
    assert found["main", "sent"].oldest_at > 0


def test_what_is_finished_is_told_once_in_order(bridge: Bridge, store: SqliteStore) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1", "2", "3", metadata=OWN)
    one, two, _ = claim(bridge)
    store.clock.now += 70
    bridge.deliveries.settle([answered(one), failed(two, permanent=True)], "me")
    done, dead = bridge.overview.finished(0, 10)
    assert (done.shard, done.state, done.latency_ms, done.attempts) == ("main", "done", 70, 1)
    assert (dead.state, dead.latency_ms) == ("dead", 70)
    assert bridge.overview.finished(0, 1) == [done]
    assert bridge.overview.finished(done.number, 10) == [dead]
    assert bridge.overview.finished(dead.number, 10) == []
