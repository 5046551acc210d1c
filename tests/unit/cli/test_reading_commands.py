"""What people read and page through: messages, conversations, and the audit log."""

import json
import os

import apsw
import pytest
from bridge_calls import answered, ask, claim_one, settle, talk
from prepared_home import Run

from autopoll.bridge.protocols import Bridge
from autopoll.errors import Exit
from autopoll.home.home import Home
from autopoll.message import write_query


def exchange(bridge: Bridge, conversation: str, question: str) -> int:
    """Ask and answer a question in the form of JSON; return the number of the answer."""
    ask(bridge, conversation, write_query(question, "q-1"))
    settle(bridge, answered(claim_one(bridge), "Because\tof \N{SNOWMAN}."))
    return bridge.messages.newest()


def test_what_was_said_is_shown_and_not_the_json_around_it(run: Run, bridge: Bridge) -> None:
    conversation = talk(bridge)
    exchange(bridge, conversation, 'Why "so"?')
    for args in (["messages"], ["conversations", "show", conversation]):
        code, out, _ = run(*args)
        assert code == Exit.OK
        assert 'Why "so"?' in out and "Because" in out and "of \N{SNOWMAN}." in out
        assert "query_id" not in out and "{" not in out
    [first, second] = map(json.loads, run("messages", "--json")[1].splitlines())
    assert json.loads(first["text"])["question"] == 'Why "so"?'
    assert json.loads(second["text"])["answer"] == "Because\tof \N{SNOWMAN}."
    _, out, _ = run("messages")
    assert [line.split()[5] for line in out.splitlines()[1:]] == ["query", "response"]


def test_the_newest_messages_of_a_conversation_are_shown_and_stay_unread(
    run: Run, bridge: Bridge
) -> None:
    conversation = talk(bridge, None)
    ids = ask(bridge, conversation, *(f"text {number}" for number in range(9)))
    _, out, _ = run("conversations", "show", conversation)
    assert [f"--- message {each}," in out for each in ids] == [False] * 4 + [True] * 5
    assert "These are the newest" in out
    assert len(bridge.messages.find(conversation=conversation, unread=True)) == 9


def test_messages_are_paged_back_by_the_lowest_number(run: Run, bridge: Bridge) -> None:
    ids = ask(bridge, talk(bridge), *map(str, range(5)))
    page = run("messages", "--json", "--limit", "2", "--before", str(ids[3]))[1]
    assert [json.loads(line)["id"] for line in page.splitlines()] == ids[1:3]
    assert run("messages", "--before", "1", "--follow")[0] == Exit.USAGE


# --- search


def test_what_was_said_is_found_whatever_its_case_and_escapes(run: Run, bridge: Bridge) -> None:
    one, two = talk(bridge), talk(bridge, None)
    exchange(bridge, one, "Wie geht der GRÜSSE-Import?")
    ask(bridge, two, "nothing", "the  grüße\nimport, twice")
    code, out, _ = run("conversations", "search", "grüsse-import", "--json")
    assert code == Exit.OK
    found = json.loads(out)
    assert [json.loads(each["text"])["question"] for each in found["messages"]] == [
        "Wie geht der GRÜSSE-Import?"
    ]
    assert (found["searched"], found["before"], found["conversations"]) == (4, None, [])
    _, out, _ = run("conversations", "search", "GRÜSSE import")
    assert "grüße import, twice" in out and one not in out
    found = json.loads(run("conversations", "search", "query_id", "--json")[1])
    assert found["messages"] == [], "the envelope says nothing"
    assert len(bridge.messages.find(conversation=two, unread=True)) == 2


def test_conversations_are_found_by_id_role_and_shard(run: Run, bridge: Bridge) -> None:
    one = talk(bridge)
    other = bridge.conversations.create("Coordinator", "x").conversation
    for words, expected in ((one[5:14].upper(), one), ("coordin", other), ("main", one)):
        found = json.loads(run("conversations", "search", words, "--json")[1])
        assert expected in [each["id"] for each in found["conversations"]]
    assert other in run("conversations", "search", "coordin")[1]


def test_a_search_that_was_cut_says_so_and_can_be_continued(run: Run, bridge: Bridge) -> None:
    conversation = talk(bridge, None)
    ids = ask(bridge, conversation, *(f"needle {number}" for number in range(7)))
    seen: list[int] = []
    before: list[str] = []
    while True:
        args = ["conversations", "search", "needle", "--limit", "3", *before]
        found = json.loads(run(*args, "--json")[1])
        seen = [each["id"] for each in found["messages"]] + seen
        if found["before"] is None:
            break
        assert f"--before {found['before']}" in run(*args)[1]
        before = ["--before", str(found["before"])]
    assert seen == ids


def test_a_search_ends_in_time(run: Run, bridge: Bridge) -> None:
    ask(bridge, talk(bridge, None), *map(str, range(1200)))
    found = json.loads(run("conversations", "search", "x", "--timeout", "1ms", "--json")[1])
    assert found["searched"] == 500 and found["before"] is not None


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["search"], Exit.USAGE), (["search", ""], Exit.USAGE), (["search", " \n"], Exit.USAGE),
        (["search", "x", "--limit", "0"], Exit.USAGE),
        (["search", "x", "--before", "x"], Exit.USAGE),
        (["search", "x", "--conversation", "conv_none"], Exit.DOWN),
        (["search", "\x1b[2J\u202e"], Exit.OK), (["search", "%_*[("], Exit.OK),
        (["search", "x" * 100_000], Exit.OK), (["search", "x", "--timeout", "never"], Exit.USAGE),
    ],
)  # fmt: skip
def test_ugly_searches_come_to_a_clear_end(
    run: Run, bridge: Bridge, args: list[str], code: Exit
) -> None:
    ask(bridge, talk(bridge), "a\x1b[2Jb")
    found, out, err = run("conversations", *args)
    assert found == code
    assert "\x1b" not in out + err
    assert not err or err.startswith("autopoll: ")


# --- audit


def test_the_audit_log_is_shown_filtered_and_paged(run: Run, bridge: Bridge) -> None:
    one, two = talk(bridge), talk(bridge)
    exchange(bridge, one, "Why?")
    lines = [json.loads(line) for line in run("audit", "--json")[1].splitlines()]
    assert [each["id"] for each in lines] == sorted(each["id"] for each in lines)
    assert lines[-1]["action"] == "query_answered"
    assert lines[-1]["at"].endswith("Z") and isinstance(lines[-1]["details"], dict)
    _, out, _ = run("audit", "--action", "query_answered")
    assert "message_id=" in out and out.count("\n") == 2
    page = run("audit", "--json", "--limit", "1", "--before", str(lines[-1]["id"]))[1]
    assert json.loads(page) == lines[-2]
    only = run("audit", "--json", "--conversation", two)[1]
    assert {json.loads(line)["conversation"] for line in only.splitlines()} == {two}
    assert run("audit", "--since", "1h")[1].count("\n") == len(lines) + 1
    assert run("audit", "--since", "2099-01-01") == (Exit.OK, "nothing in the audit log\n", "")


def test_lines_of_other_programs_are_shown_whatever_is_in_them(
    home: Home, run: Run, bridge: Bridge
) -> None:
    driver = apsw.Connection(str(home.var / "bridge.db"))
    driver.execute(
        "INSERT INTO audit_log(conversation_id,session_id,action,details,timestamp) VALUES"
        " (NULL,7,x'ff1b','\x1b[2J{','2026-01-31 12:00:00'),(NULL,NULL,NULL,NULL,NULL),"
        " ('c','a','long',?,'no time')",
        ("y" * 300_000,),
    )
    driver.close()
    code, out, err = run("audit")
    assert (code, err) == (Exit.OK, "")
    assert "\x1b" not in out and "2026-01-31T12:00:00Z" in out
    assert max(map(len, out.splitlines())) < 500
    code, out, _ = run("audit", "--json", "--since", "2026-01-31T11:00:00")
    assert code == Exit.OK
    assert "2026-01-31T12:00:00" in out, "a blank stands where we write a T"
    assert len(out) < 400_000


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--since", "soon"], Exit.USAGE), (["--since", ""], Exit.USAGE),
        (["--since", "99999-01-01"], Exit.USAGE), (["--since", "\x1b"], Exit.USAGE),
        (["--before", "0"], Exit.USAGE), (["--before", "9" * 30], Exit.USAGE),
        (["--limit", "-1"], Exit.USAGE), (["--conversation", "conv_none"], Exit.DOWN),
        (["--follow", "--before", "1"], Exit.USAGE), (["--action", "\x1b[2J"], Exit.OK),
        (["--since", "2026-03-01T10:00:00+02:00"], Exit.OK), (["--since", "3650d"], Exit.OK),
    ],
)  # fmt: skip
def test_ugly_words_come_to_a_clear_end(
    run: Run, bridge: Bridge, args: list[str], code: Exit
) -> None:
    found, out, err = run("audit", *args)
    assert found == code, out + err
    assert "\x1b" not in out + err
    assert not err or err.startswith("autopoll: ")


def test_without_a_store_they_say_so(run: Run, home: Home) -> None:
    os.rename(home.var / "bridge.db", home.var / "away")
    for args in (["audit"], ["conversations", "search", "x"], ["messages", "--follow"]):
        code, out, err = run(*args)
        assert (code, out) == (Exit.DOWN, "") and err.startswith("autopoll: ")
