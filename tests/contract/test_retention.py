"""What may be forgotten, and what never."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from answerers import take_over
from bridge_calls import (
    OWN,
    answered,
    ask,
    claim,
    claim_one,
    failed,
    key,
    once,
    settle,
    stored,
    talk,
)
from bridge_stores import ENGINES, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.retention_protocol import Ages, PrunedRows, SweepPlace
from autopoll.clock import utc_iso_of, wall_ms
from autopoll.errors import NotFound

DAY = 86_400_000
OLD = Ages(answered=DAY, canaries=DAY, audit=DAY, foreign=DAY)
CANARY = '{"lane":"own","canary":true}'


def sweep(
    bridge: Bridge, ages: Ages = OLD, most: int = 100, *, dry_run: bool = False
) -> PrunedRows:
    """Sweep once from the beginning to the end."""
    removed, place = PrunedRows(), SweepPlace()
    while place is not None:
        step, place = bridge.retention.sweep(ages, place, most, dry_run=dry_run)
        removed.add(step)
    return removed


def answer(bridge: Bridge, conversation: str, *texts: str, metadata: str | None = OWN) -> list[int]:
    """Ask questions, and answer them."""
    numbers = ask(bridge, conversation, *texts, metadata=metadata)
    for _ in texts:
        settle(bridge, answered(claim(bridge, 1)[0]))
    return numbers


def count(store: Store, table: str) -> int:
    [(number,)] = store.foreign(f"SELECT count(*) FROM {table}")
    return int(number)


def test_an_old_answered_question_goes_with_its_answer_its_delivery_and_nothing_else(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    old = answer(bridge, conversation, "old", "older")
    store.clock.now += DAY
    [young] = answer(bridge, conversation, "young")
    found = sweep(bridge, Ages(answered=DAY))
    assert (found.questions, found.rows) == (2, 2)
    assert found.text_bytes == len("old") + len("older") + 2 * len("yes")
    for number in old:
        with pytest.raises(NotFound):
            bridge.messages.query_state(number)
    assert bridge.messages.query_state(young).state == "done"
    assert [count(store, table) for table in ("messages", "deliveries", "answers")] == [2, 1, 1]
    assert bridge.overview.counts()["done"] == 1
    assert sweep(bridge, Ages(answered=DAY)).rows == 0
    [next_one] = answer(bridge, conversation, "next")
    assert next_one > young, "no number is handed out twice"


def test_no_age_removes_what_is_unanswered_or_a_dead_letter_or_unread(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    dead, dropped, retried, leased = ask(bridge, conversation, "1", "2", "3", "4", metadata=OWN)
    for each in claim(bridge, 3):
        settle(bridge, failed(each, permanent=True))
    claim(bridge, 1)
    [unread] = answer(bridge, conversation, "in the lane", metadata=None)
    queued = ask(bridge, conversation, "5", "6")
    bridge.overview.drop_dead(dropped)
    again = bridge.overview.retry_dead(retried)
    mail = talk(bridge, None)
    [unheard] = ask(bridge, mail, "hello?")
    store.clock.now += 1000 * DAY
    found = sweep(bridge, Ages(answered=0, canaries=0, audit=0, foreign=0))
    assert found.questions == 2
    for number in (dropped, retried):
        with pytest.raises(NotFound):
            bridge.messages.message(number)
    for number in (dead, leased, unread, *queued, again, unheard):
        bridge.messages.message(number)
    assert [each.message_id for each in bridge.overview.dead_letters()] == [dead]
    answer_to = bridge.messages.query_state(unread).answer
    assert answer_to is not None and answer_to.text == "yes"
    bridge.messages.receive(conversation, "a")
    assert sweep(bridge, Ages(answered=0)).questions == 1, "once its answer is read"


def test_messages_that_autopoll_had_no_part_in_stay_unless_they_are_asked_for(
    bridge: Bridge, store: Store
) -> None:
    people = talk(bridge, None)
    ask(bridge, people, "read", "unread")
    bridge.messages.receive(people, "b", limit=1)
    store.clock.now = wall_ms() + 100 * DAY  # messages are dated by the wall
    store.foreign("INSERT INTO messages(message,read,timestamp) VALUES('undated',1,'soon')")
    everything = Ages(answered=0, canaries=0, audit=0)
    assert sweep(bridge, everything).foreign_messages == 0
    assert count(store, "messages") == 3
    found = sweep(bridge, Ages(foreign=99 * DAY))
    assert (found.foreign_messages, found.text_bytes) == (1, len("read"))
    assert [each.text for each in bridge.messages.find(limit=10)] == ["unread", "undated"]
    assert sweep(bridge, Ages(foreign=101 * DAY)).rows == 0


def test_the_answer_of_a_kept_question_does_not_go_as_a_foreign_message(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    [asked] = answer(bridge, conversation, "?", metadata=None)
    bridge.messages.receive(conversation, "a")
    store.clock.now = wall_ms() + 100 * DAY
    assert sweep(bridge, Ages(foreign=0)).foreign_messages == 0
    assert bridge.messages.query_state(asked).answer is not None


def test_lines_of_the_audit_log_go_by_who_wrote_them(bridge: Bridge, store: Store) -> None:
    answer(bridge, talk(bridge), "?")
    store.foreign("INSERT INTO audit_log(action,timestamp) VALUES('theirs',?)", utc_iso_of(1))
    store.foreign("INSERT INTO audit_log(action,timestamp) VALUES('query_answered','never')")
    store.clock.now = wall_ms() + 10 * DAY
    assert sweep(bridge, Ages(audit=9 * DAY)).audit_lines == 2
    assert sorted(store.foreign("SELECT action FROM audit_log")) == [
        ("query_answered",),
        ("theirs",),
    ]
    assert sweep(bridge, Ages(foreign=9 * DAY)).audit_lines == 1


def test_a_question_stays_as_long_as_its_key_may_be_repeated(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    first = stored(once(bridge, conversation, "?", key()))
    settle(bridge, answered(claim_one(bridge)))
    store.clock.now += DAY // 2
    assert sweep(bridge, Ages(answered=0, foreign=0)).rows == 0
    assert stored(once(bridge, conversation, "?", key())).id == first.id
    store.clock.now += DAY
    found = sweep(bridge, Ages(answered=0))
    assert (found.questions, found.keys) == (1, 1)
    assert count(store, "keys") == 0


def test_a_canary_counts_for_nothing_and_goes_by_an_age_of_its_own(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "?", "??", metadata=CANARY)
    one, two = claim(bridge)
    lines = count(store, "audit_log")
    store.clock.now += 5
    settle(bridge, answered(one))
    assert settle(bridge, failed(two, permanent=True)).state == "dead"
    assert bridge.overview.latencies_ms() == []
    assert bridge.overview.dead_letters() == []
    assert bridge.overview.counts()["dead"] == 0
    assert count(store, "audit_log") == lines
    assert bridge.messages.query_state(one.message_id).answer is not None, "until it is removed"
    [question] = answer(bridge, conversation, "a question")
    store.clock.now += 5
    assert sweep(bridge, Ages(canaries=1)).canaries == 2
    assert bridge.messages.query_state(question).state == "done"


def test_canaries_of_earlier_versions_are_known_by_their_metadata(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    answer(bridge, conversation, "?", metadata=CANARY)
    answer(bridge, conversation, "?", metadata='{"lane":"own","canary":false}')
    answer(bridge, conversation, "?")
    store.foreign("UPDATE deliveries SET lane='m'||message_id")
    assert sweep(bridge, Ages(canaries=0)).canaries == 1


def test_what_its_asker_alone_knows_of_is_removed_once_it_is_settled(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    asked = ask(bridge, conversation, *"12345", metadata=OWN)
    first, second, third, _ = claim(bridge, 4)
    settle(bridge, answered(first))
    settle(bridge, failed(second, permanent=True))
    settle(bridge, failed(third, wait_ms=1000))
    assert bridge.retention.remove([*asked, 10**9]) == 2
    assert bridge.retention.remove([]) == 0
    assert [each.id for each in bridge.messages.find()] == asked[2:]
    counts = bridge.overview.counts()
    assert (counts["ready"], counts["leased"], counts["done"], counts["dead"]) == (2, 1, 0, 0)


def test_a_question_that_somebody_set_back_to_unread_is_kept_as_mail_is(
    bridge: Bridge, store: Store
) -> None:
    [asked] = answer(bridge, talk(bridge), "?")
    store.foreign("UPDATE messages SET read=0 WHERE id=?", asked)
    store.clock.now += 2 * DAY
    assert sweep(bridge, dry_run=True).questions == 0
    assert sweep(bridge).questions == 0
    assert claim(bridge) == [], "it has its answer"
    assert sweep(bridge).questions == 1


def test_a_dry_run_tells_the_same_and_removes_nothing(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    answer(bridge, conversation, *"12345")
    answer(bridge, conversation, "?", metadata=CANARY)
    stored(once(bridge, conversation, "?", key()))
    store.clock.now = wall_ms() + 500 * DAY
    before = [count(store, table) for table in ("messages", "deliveries", "audit_log", "keys")]
    for most in (1, 2, 100):
        dry = sweep(bridge, most=most, dry_run=True)
        assert (dry.questions, dry.canaries, dry.keys) == (5, 1, 7)
    assert before == [
        count(store, table) for table in ("messages", "deliveries", "audit_log", "keys")
    ]
    assert sweep(bridge, most=2) == dry


def test_a_step_removes_no_more_than_it_is_told_or_than_a_megabyte(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    answer(bridge, conversation, *"12345")
    answer(bridge, conversation, "x" * 700_000, "y" * 700_000, "z")
    store.clock.now += 2 * DAY
    steps, place = [], SweepPlace()
    while place is not None and place.part == 0:
        step, place = bridge.retention.sweep(Ages(answered=DAY), place, 4)
        steps.append(step.questions)
    assert steps == [4, 3, 1]


def test_a_question_that_another_program_keeps_from_going_keeps_its_delivery(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    answer(bridge, conversation, "keep", "go")
    store.clock.now += 2 * DAY
    store.keep_rows("messages", "old.message='keep'")
    assert sweep(bridge).questions == 1
    [left] = [each for each in bridge.messages.find() if each.text == "keep"]
    assert bridge.messages.query_state(left.id).state == "done"
    store.foreign("UPDATE messages SET read=0 WHERE message='keep'")
    assert claim(bridge) == [], "it is not asked once more"


def test_rows_of_other_programs_are_swept_over_whatever_they_hold(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    answer(bridge, conversation, "?")
    for value in store.odd_values:
        store.foreign(
            "INSERT INTO messages(message,metadata,timestamp,read)"
            f" VALUES({value},{value},{value},1)"
        )
        store.foreign(f"INSERT INTO audit_log(action,timestamp) VALUES({value},{value})")
    store.clock.now = wall_ms() + 1000 * DAY
    assert sweep(bridge, Ages(answered=0, canaries=0, audit=0, foreign=0)).questions == 1


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happened_before_only_what_is_over_goes_and_the_rest_is_answered_in_order(
    new_store: Callable[[str], Store], engine: str, seed: int
) -> None:
    chance = random.Random(seed)
    store = new_store(engine)
    try:
        _happen(store, chance)
    finally:
        store.close()


def _happen(store: Store, chance: random.Random) -> None:
    bridge, pruner = store.open(max_attempts=1), store.open()
    take_over(bridge)
    talks = [talk(bridge) for _ in range(2)]
    asked: dict[str, list[int]] = {name: [] for name in talks}
    seen: dict[str, list[int]] = {name: [] for name in talks}
    held: list[Any] = []

    def settle_some() -> None:
        while held and chance.random() < 0.8:
            one = held.pop(chance.randrange(len(held)))
            dead = chance.random() < 0.2
            settle(bridge, failed(one, permanent=True) if dead else answered(one))
            if "/" in one.lane:
                seen[one.conversation].append(one.message_id)

    for _ in range(chance.randint(5, 30)):
        store.clock.now += chance.choice((1, DAY))
        match chance.randrange(6):
            case 0 | 1:
                name, own = chance.choice(talks), chance.random() < 0.4
                numbers = ask(bridge, name, *"?" * chance.randint(1, 3), metadata=OWN * own or None)
                asked[name] += [] if own else numbers
            case 2:
                held += claim(bridge, chance.randint(1, 4))
            case 3:
                settle_some()
            case 4:
                bridge.messages.receive(chance.choice(talks), "a", limit=chance.randint(1, 5))
            case _:
                for letter in bridge.overview.dead_letters()[: chance.randint(0, 2)]:
                    bridge.overview.drop_dead(letter.message_id)
        kept = _kept(store)
        ages = Ages(answered=chance.choice((0, DAY, 3 * DAY)), foreign=chance.choice((None, 0)))
        sweep(pruner, ages, chance.choice((1, 3, 100)))
        assert kept <= {number for (number,) in store.foreign("SELECT id FROM messages")}
    while held or any(bridge.overview.counts()[state] for state in ("queued", "ready", "leased")):
        held += claim(bridge, 4)
        settle_some()
        sweep(pruner, Ages(answered=0), chance.choice((1, 100)))
    held += claim(bridge, 100)
    while held:
        settle_some()
        held += claim(bridge, 100)
    assert seen == asked, "each once, and in order"


def _kept(store: Store) -> set[int]:
    """Return the messages that nothing may remove."""
    rows = store.foreign(
        "SELECT m.id FROM messages m LEFT JOIN deliveries d ON d.message_id=m.id"
        " LEFT JOIN answers a ON a.answer_id=m.id LEFT JOIN deliveries q ON q.message_id=a.query_id"
        " WHERE d.state IN ('queued','ready','leased')"
        " OR d.state='dead' AND d.dismissed_at IS NULL"
        " OR m.read=0 AND (a.answer_id IS NULL OR q.lane LIKE '%/%')"
    )
    return {number for (number,) in rows}
