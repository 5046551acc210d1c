"""What waits and what is under way, as an operator sees it."""

from answerers import LEASE, take_over
from bridge_calls import OWN, answered, ask, ask_many, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.queue_records import COUNTED, QueuedQuestion


def queue(bridge: Bridge, shard: str | None = None) -> list[QueuedQuestion]:
    return bridge.overview.queue(shard=shard, after=0, limit=1000).questions


def test_all_states_are_shown_oldest_first_with_shard_and_asker(bridge: Bridge) -> None:
    take_over(bridge, host="one")
    lane, other = talk(bridge), talk(bridge, shard="other")
    under_way, behind = ask(bridge, lane, "1", "2")
    claim_one(bridge)
    [ready] = ask(bridge, other, "3", metadata=OWN)
    bridge.deliveries.claim("me", {}, LEASE)
    [sent] = ask(bridge, lane, "4")
    shown = queue(bridge)
    assert [(each.id, each.state, each.shard, each.attempt) for each in shown] == [
        (under_way, "leased", "main", 1), (behind, "queued", "main", 0),
        (ready, "ready", "other", 0), (sent, "sent", "main", 0),
    ]  # fmt: skip
    assert {(each.conversation, each.asker, each.role) for each in shown} == {
        (lane, "a", "asker"), (other, "a", "asker")
    }  # fmt: skip
    assert [each.host for each in shown] == ["one", None, None, None]
    assert [each.id for each in queue(bridge, "other")] == [ready]
    assert queue(bridge, "nowhere") == []
    page = bridge.overview.queue(shard=None, after=0, limit=1)
    assert page.counts == {"leased": 1, "ready": 1, "queued": 1, "sent": 1}
    assert bridge.overview.queue(shard="other", after=0, limit=1).counts["ready"] == 1


def test_what_is_answered_or_wants_no_answer_is_not_shown(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ask(bridge, conversation, "1")
    settle(bridge, answered(claim_one(bridge)))
    ask(bridge, conversation, "thanks", metadata='{"type": "response"}')
    ask(bridge, talk(bridge, shard=None), "to a person")
    assert queue(bridge) == []


def test_a_question_that_failed_says_why_and_a_cancelled_one_by_whom(bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    settle(bridge, failed(claim_one(bridge)))
    bridge.deliveries.cancel([second], "Cancelled by ann")
    shown = queue(bridge)
    assert [(each.id, each.attempt, each.last_error, each.cancelled) for each in shown] == [
        (first, 1, "it broke", None), (second, 0, None, "Cancelled by ann"),
    ]  # fmt: skip


def test_pages_show_each_once_and_counts_are_capped(bridge: Bridge) -> None:
    conversation = talk(bridge)
    numbers = ask_many(bridge, conversation, 400, OWN)
    numbers += ask_many(bridge, conversation, 400)
    claim(bridge, 30)
    numbers += ask_many(bridge, conversation, 400, OWN)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = bridge.overview.queue(shard=None, after=after, limit=37)
        assert len(page.questions) <= 37
        seen += [each.id for each in page.questions]
        after = page.next
    assert seen == numbers
    more = [one for _ in range(3) for one in ask_many(bridge, conversation, 500, OWN)]
    assert bridge.overview.queue(shard=None, after=0, limit=1).counts["sent"] == COUNTED
    assert bridge.overview.queue(shard=None, after=more[-1], limit=1).questions == []


def test_rows_that_other_programs_wrote_are_shown_or_passed_over(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    for table, row in store.odd_rows(conversation):
        marks = ",".join("?" * len(row))
        store.foreign(f"INSERT INTO {table}({','.join(row)}) VALUES({marks})", *row.values())
    [number] = ask(bridge, conversation, "1")
    assert number in [each.id for each in queue(bridge)]
