"""Messages: sent, read, looked at, and looked up."""

import json

import pytest
from bridge_calls import OWN, answered, ask, claim, failed, send, settle, talk
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.errors import BridgeBusy, NotFound, RateLimited, UsageError


def test_what_cannot_be_taken_is_refused(store: Store) -> None:
    bridge = store.open(max_message=10)
    conversation = talk(bridge)
    with pytest.raises(UsageError, match="too large: 11 bytes"):
        ask(bridge, conversation, "é" * 5 + "x")
    for metadata in ("[]", "{", "5", '"x"', "[" * 100_000):
        with pytest.raises(UsageError, match="not a JSON object"):
            ask(bridge, conversation, "x", metadata=metadata)
    with pytest.raises(UsageError, match="no session 'c'"):
        send(bridge, conversation, "c", "x")
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


def test_redaction_can_be_turned_off(store: Store) -> None:
    bridge = store.open(redact=False)
    conversation = talk(bridge)
    ask(bridge, conversation, "AKIA" + "Q" * 16)
    assert bridge.messages.find()[0].text == "AKIA" + "Q" * 16


def test_looking_at_messages_consumes_nothing_and_filters(bridge: Bridge) -> None:
    one, two = talk(bridge), talk(bridge)
    ids = ask(bridge, one, *map(str, range(5)))
    ask(bridge, two, '{"type": "query", "question": "q"}')
    send(bridge, two, "b", "back", metadata='{"type": "status"}')
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


def test_two_inboxes_share_the_messages_between_them(store: Store) -> None:
    one, two = store.open(), store.open()
    conversation = talk(one, None)
    ask(one, conversation, "1", "2")
    assert len(one.messages.receive(conversation, "b", limit=1)) == 1
    assert [message.text for message in two.messages.receive(conversation, "b")] == ["2"]
    with pytest.raises(NotFound):
        one.messages.receive("conv_none", "b")


def test_a_commit_of_another_is_noticed(store: Store) -> None:
    one, two = store.open(), store.open()
    conversation = talk(one)
    one.changed()
    ask(two, conversation, "1")
    assert one.changed()


@pytest.mark.parametrize("what", ["messages", "deliveries", "finished"])
def test_a_row_that_is_committed_late_is_passed_by_nobody_who_reads_beyond_a_number(
    store: Store, what: str
) -> None:
    reader, slow, quick = (store.open() for _ in range(3))
    conversations = [talk(reader) for _ in range(3)]  # so that none waits for another's limit
    for number, conversation in enumerate(conversations):
        ask(reader, conversation, f"{number}", metadata=OWN)
    held = claim(reader)
    settle(reader, answered(held[0]))
    (first,) = reader.overview.finished(0, 10)
    seen: list[int] = []

    def write(bridge: Bridge, number: int) -> None:
        if what == "finished":
            settle(bridge, answered(held[number]))
        else:
            ask(bridge, conversations[number], f"{number}", metadata=OWN)

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


def test_who_has_a_time_of_a_moment_ago_finds_a_spent_budget_spent(store: Store) -> None:
    bridge = store.open(rate_per_s=10.0, rate_burst=5)
    conversation = talk(bridge)
    ask(bridge, conversation, *"12345")
    store.clock.now -= 1000  # as one whose transaction began before, and waited for the lock
    with pytest.raises(RateLimited):
        ask(bridge, conversation, "6")


def test_the_rate_budget_is_shared_and_refills(store: Store) -> None:
    one = store.open(rate_per_s=10.0, rate_burst=5)
    two = store.open(rate_per_s=10.0, rate_burst=5)
    conversation = talk(one)

    send(one, conversation, "a", *"123")
    send(two, conversation, "a", *"12")
    with pytest.raises(RateLimited) as limited:
        send(one, conversation, "a", "1")
    assert 100 <= limited.value.wait_ms <= 101
    send(one, conversation, "b", *"12345")
    store.clock.now += limited.value.wait_ms
    send(two, conversation, "a", "1")
    with pytest.raises(RateLimited):
        send(one, conversation, "a", "1")
    store.clock.now -= 3_600_000
    send(one, conversation, "a", *"12345")
    with pytest.raises(RateLimited):
        send(one, conversation, "a", "1")
    assert len(one.messages.find()) == 3 + 2 + 5 + 1 + 5, "what is refused is not stored"
