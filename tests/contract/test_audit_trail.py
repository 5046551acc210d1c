"""The audit log as it is read, and messages page by page."""

import json

from bridge_calls import ask, talk

from autopoll.bridge.protocols import Bridge
from autopoll.clock import utc_iso


def test_the_newest_lines_come_oldest_first_and_pages_go_back(bridge: Bridge) -> None:
    assert bridge.overview.newest_audit() == -1
    one, two = talk(bridge), talk(bridge)
    for number in range(5):
        bridge.conversations.audit(one, "a", "noted", json.dumps({"number": number}))
    newest = bridge.overview.audit_entries(limit=2)
    assert [json.loads(each.details)["number"] for each in newest] == [3, 4]
    assert bridge.overview.newest_audit() == newest[-1].id
    older = bridge.overview.audit_entries(limit=2, before=newest[0].id)
    assert [json.loads(each.details)["number"] for each in older] == [1, 2]
    beyond = bridge.overview.audit_entries(after=older[0].id, limit=2)
    assert [json.loads(each.details)["number"] for each in beyond] == [2, 3]
    assert bridge.overview.audit_entries(after=newest[-1].id) == []
    made = bridge.overview.audit_entries(action="conversation_created")
    assert [each.conversation for each in made] == [one, two]
    assert {each.conversation for each in bridge.overview.audit_entries(conversation=two)} == {two}
    assert newest[0].session == "a" and newest[0].timestamp[:4].isdigit()


def test_lines_since_a_moment_are_found(bridge: Bridge) -> None:
    conversation = talk(bridge)
    bridge.conversations.audit(conversation, None, "noted", "not JSON \N{SNOWMAN}")
    assert bridge.overview.audit_entries(since=utc_iso(60)) == []
    [line] = bridge.overview.audit_entries(since=utc_iso(-60), action="noted")
    assert "\N{SNOWMAN}" in json.loads(line.details)["text"]


def test_messages_are_paged_backwards(bridge: Bridge) -> None:
    conversation = talk(bridge)
    ids = ask(bridge, conversation, *map(str, range(5)))
    assert [each.id for each in bridge.messages.find(before=ids[3], limit=2)] == ids[1:3]
    assert [each.id for each in bridge.messages.find(after=ids[0], before=ids[2])] == [ids[1]]
    assert bridge.messages.find(before=ids[0]) == []
