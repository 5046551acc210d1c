"""Questions as a list, whatever has become of them: filtered, and a page at a time."""

import pytest
from bridge_calls import OWN, answered, ask, ask_many, claim, claim_one, failed, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.question_list import QuestionList
from autopoll.bridge.sql import question_lists
from autopoll.message import write_query

CANARY = '{"lane":"canary","canary":true}'


def listed(
    bridge: Bridge,
    *,
    state: str | None = None,
    shard: str | None = None,
    conversation: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> QuestionList:
    return bridge.overview.questions(
        state=state, shard=shard, conversation=conversation, before=before, limit=limit
    )


def numbers(page: QuestionList) -> list[int]:
    return [each.id for each in page.questions]


def test_a_question_is_listed_with_its_answer_and_what_it_took(
    bridge: Bridge, store: Store
) -> None:
    conversation = talk(bridge)
    [number] = ask(bridge, conversation, write_query("Why \N{SNOWMAN}?", "q-1"))
    delivery = claim_one(bridge)
    store.clock.now += 70
    settle(bridge, answered(delivery, "Because \N{SNOWMAN}."))
    [only] = listed(bridge).questions
    assert (only.id, only.conversation, only.asker, only.role) == (
        number, conversation, "a", "asker",
    )  # fmt: skip
    assert (only.state, only.shard, only.attempts, only.latency_ms) == ("done", "main", 1, 70)
    assert (only.question, only.answer) == ("Why \N{SNOWMAN}?", "Because \N{SNOWMAN}.")
    assert (only.failed, only.last_error) == (False, None)


def test_lists_are_of_a_state_a_shard_or_a_conversation_the_newest_first(bridge: Bridge) -> None:
    lane, other = talk(bridge), talk(bridge, shard="other")
    done, dead, waiting = ask(bridge, lane, "1", "2", "3", metadata=OWN)
    [elsewhere] = ask(bridge, other, "4", metadata=OWN)
    ask(bridge, lane, "?", metadata=CANARY)
    first, second, _ = claim(bridge, 3)
    bridge.deliveries.settle([answered(first), failed(second, permanent=True)], "me")
    bridge.deliveries.claim("me", {}, 1)  # enrols the rest
    assert numbers(listed(bridge)) == [elsewhere, waiting, dead, done]
    assert numbers(listed(bridge, state="done")) == [done]
    [lost] = listed(bridge, state="dead").questions
    assert (lost.id, lost.failed, lost.last_error) == (dead, True, "it broke")
    assert lost.answer is not None
    assert "it broke" in lost.answer
    assert numbers(listed(bridge, shard="other")) == [elsewhere]
    assert numbers(listed(bridge, conversation=lane)) == [waiting, dead, done]
    assert numbers(listed(bridge, conversation=lane, state="dead", shard="main")) == [dead]
    assert numbers(listed(bridge, shard="nowhere")) == []
    with pytest.raises(ValueError, match="no state"):
        listed(bridge, state="done' OR '1'='1")


def test_pages_show_each_question_once_and_end(bridge: Bridge) -> None:
    conversation = talk(bridge)
    sent = ask_many(bridge, conversation, 7, OWN)
    bridge.deliveries.claim("me", {}, 1)
    seen, before = [], None
    while True:
        page = listed(bridge, before=before, limit=3)
        seen.append(numbers(page))
        before = page.next
        if before is None:
            break
    assert seen == [sent[:3:-1], sent[3:0:-1], sent[:1]]


def test_a_page_looks_through_a_window_and_says_where_to_go_on(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_lists, "WINDOW", 4)
    rare = ask(bridge, talk(bridge, shard="rare"), "1", metadata=OWN)
    often = ask_many(bridge, talk(bridge), 6, OWN)
    bridge.deliveries.claim("me", {}, 1)
    first = listed(bridge, shard="rare")
    assert (first.questions, first.next) == ([], often[2])
    second = listed(bridge, shard="rare", before=first.next)
    assert (numbers(second), second.next) == (rare, None)


def test_of_long_texts_the_beginning_is_listed(bridge: Bridge) -> None:
    long = "\N{SNOWMAN} and so on, " * 2000
    for text in (write_query(long, "q-1"), long):
        ask(bridge, talk(bridge), text)
        settle(bridge, answered(claim_one(bridge), long))
        newest = listed(bridge, limit=1).questions[0]
        assert long.startswith(newest.question)
        assert newest.answer is not None
        assert long.startswith(newest.answer)
        assert 500 < len(newest.question) <= question_lists.SHOWN
        assert 500 < len(newest.answer) <= question_lists.SHOWN


def test_what_other_programs_left_is_listed_all_the_same(bridge: Bridge, store: Store) -> None:
    conversation = talk(bridge)
    [number] = ask(bridge, conversation, "once more")
    settle(bridge, answered(claim_one(bridge)))
    store.foreign("DELETE FROM messages")
    [only] = listed(bridge).questions
    assert (only.id, only.question, only.answer, only.conversation) == (
        number, "", None, conversation,
    )  # fmt: skip
