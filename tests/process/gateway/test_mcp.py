"""Agents at the door, each with the official client: tools, resources, the prompt."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from agents import Agent, Company, Door, at_gateway, at_stdio, eventually, free_port, play, text_of
from mcp.shared.exceptions import MCPError
from place import Place

from autopoll.home.config import load

WRITER = Path(__file__).parents[2] / "data" / "writer.py"
CONFIG = """
[delivery]
max_attempts = 2
[shards.main]
backend = "echo"
options = {{ concurrency = 8 }}
[shards.slow]
backend = "echo"
options = {{ delay = "800ms", concurrency = 8 }}
[shards.docs]
backend = "extract"
context = ["notes"]
[shards.writer]
backend = "command"
options = {{ command = ['{python}', '{writer}'] }}
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
"""
One = Callable[[Callable[[Agent], Any]], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all these tests; whoever kills a part of it waits until it is back."""
    root = tmp_path_factory.mktemp("mcp") / "home"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "gate.md").write_text("# The gate\n\nThe gate opens at nine.\n")
    made = Place(root, CONFIG.format(port=free_port(), python=sys.executable, writer=WRITER))
    try:
        made.run("up")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def doors(place: Place) -> dict[str, Door]:
    """Ways in for whoever may do everything: the home's owner, and the operator."""
    url = f"http://{load(place.home, {}).gateway.listen}"
    token = place.json("gateway", "token")["token"]
    return {
        "stdio": lambda: at_stdio(place),
        "stdio, handshake": lambda: at_stdio(place, mode="legacy"),
        "http": lambda: at_gateway(url, token),
        "http, handshake": lambda: at_gateway(url, token, mode="legacy"),
    }


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    made = Company()
    yield made
    made.close()


@pytest.fixture(params=["stdio", "stdio, handshake", "http", "http, handshake"])
def one(request: pytest.FixtureRequest, doors: dict[str, Door], company: Company) -> One:
    """Have the agent at one of the doors play a story."""
    agent = company.agent(request.param, doors[request.param])
    return lambda story: company.play(story(agent))


def rows(place: Place) -> dict[str, list[Any]]:
    """Return everything in the database but what the processes note of themselves all the time."""
    db = apsw.Connection(str(place.home.var / "bridge.db"), flags=apsw.SQLITE_OPEN_READONLY)
    with closing(db):
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        return {
            name: db.execute(f'SELECT * FROM "{name}"').fetchall()
            for name in tables
            if name != "session_status"
        }


def test_a_question_is_answered_with_its_sources_and_told_of_on_the_way(one: One) -> None:
    async def story(agent: Agent) -> None:
        answer = await agent.get("ask", question="When does the gate open?", shard="docs")
        assert "opens at nine" in answer["answer"]
        assert answer["sources"] == ["notes/gate.md:1-3"]
        assert (answer["status"], answer["shard"], answer["attempts"]) == ("answered", "docs", 1)
        assert agent.told[0].startswith(f"question {answer['id']} is stored")
        await agent.get("ask", question="slowly", shard="slow")
        assert any("shard slow is working on question" in text for text in agent.told)
        assert await agent.get("get_answer", id=answer["id"]) == answer

    one(story)


def test_an_answer_is_told_word_by_word_while_it_is_written(one: One) -> None:
    async def story(agent: Agent) -> None:
        answer = await agent.get("ask", question="the gate opens at nine", shard="writer")
        assert answer["answer"].split() == ["the", "gate", "opens", "at", "nine"]
        _stored, *rest = agent.told
        written = "".join(text for text in rest if "question" not in text)
        assert answer["answer"].startswith(written)
        assert written.startswith("the gate opens")

    one(story)


def test_who_does_not_wait_long_enough_fetches_the_answer_later(one: One) -> None:
    async def story(agent: Agent) -> None:
        result = await agent.call("ask", question="later", shard="slow", timeout=0)
        pending = result.structured_content
        assert not result.is_error
        assert (pending["status"], pending["answer"]) == ("pending", None)
        assert f"get_answer, id {pending['id']}" in text_of(result)
        answer = await agent.get("get_answer", id=pending["id"], timeout=30)
        assert (answer["status"], answer["answer"]) == ("answered", "later")

    one(story)


def test_a_cancelled_ask_ends_the_waiting_and_keeps_the_question(one: One) -> None:
    async def story(agent: Agent) -> None:
        asking = asyncio.create_task(agent.call("ask", question="never mind", shard="slow"))
        told = await eventually(lambda: agent.told, "to be told of the question")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        number = int(told[0].split()[1])
        assert (await agent.get("get_answer", id=number))["status"] == "pending"
        assert (await agent.get("get_answer", id=number, timeout=30))["answer"] == "never mind"

    one(story)


def test_asking_again_under_the_same_key_asks_nothing_new(one: One) -> None:
    async def story(agent: Agent) -> None:
        key = os.urandom(8).hex()
        first, again = [
            await agent.get("ask", question="once?", shard="slow", key=key, timeout=seconds)
            for seconds in (0, 30)
        ]
        assert (first["id"], first["status"]) == (again["id"], "pending")
        assert again["answer"] == "once?"
        assert "key" in await agent.refused("ask", question="another?", key=key)

    one(story)


@pytest.mark.parametrize("pair", [("stdio", "stdio"), ("stdio", "http"), ("http", "http")])
def test_agents_beside_each_other_each_get_their_own_answers(
    doors: dict[str, Door], pair: tuple[str, str]
) -> None:
    async def ask(number: int, door: str) -> list[str]:
        async with doors[door]() as agent:
            questions = [f"agent {number}, question {n}" for n in range(5)]
            results = await asyncio.gather(
                *(agent.get("ask", question=question, shard="slow") for question in questions)
            )
            assert [result["answer"] for result in results] == questions
            return [result["id"] for result in results]

    async def story() -> None:
        first, second = await asyncio.gather(ask(1, pair[0]), ask(2, pair[1]))
        assert not set(first) & set(second)

    play(story)


@pytest.mark.parametrize("one", ["stdio", "http"], indirect=True)
def test_a_worker_killed_in_the_middle_of_a_question_costs_an_attempt_and_no_answer(
    place: Place, one: One
) -> None:
    async def story(agent: Agent) -> None:
        asking = asyncio.create_task(agent.get("ask", question="through it all", shard="slow"))
        await eventually(
            lambda: any("is working on" in text for text in agent.told), "the work to begin"
        )
        killed = await asyncio.to_thread(place.kill, "worker-slow-1")
        answer = await asking
        assert (answer["answer"], answer["attempts"]) == ("through it all", 2)
        assert place.pid("worker-slow-1") != killed

    one(story)
    place.ready("worker-slow-1")


def test_a_question_that_fails_is_a_failed_call_that_says_why(one: One) -> None:
    async def story(agent: Agent) -> None:
        result = await agent.call("ask", question="?", shard="docs", context_file="none.md")
        assert result.is_error
        assert result.structured_content["status"] == "error"
        assert "none.md" in text_of(result)

    one(story)


def test_an_agent_of_an_old_bridge_finds_what_it_knows(one: One) -> None:
    async def story(agent: Agent) -> None:
        made = await agent.get("create_conversation", my_role="backend", partner_role="frontend")
        speaks = {"conversation_id": made["conversation_id"]}
        first = speaks | {"session_id": "a", "token": made["session_a_token"]}
        second = speaks | {"session_id": "b", "token": made["session_b_token"]}
        sent = await agent.get(
            "send_to_partner",
            **first,
            message="Is key AKIAABCDEFGHIJKLMNOP safe?",
            action_type="question",
            files_involved=["api.py"],
        )
        assert sent["redacted"]
        (received,) = (await agent.get("check_messages", **second))["messages"]
        assert (received["from"], received["metadata"]) == (
            "a",
            {"action_type": "question", "files_involved": ["api.py"]},
        )
        assert "AKIA" not in received["message"]
        assert (await agent.get("check_messages", **second))["messages"] == []
        before = await agent.get("check_partner_status", **first)
        assert (before["status"], before["alive"]) == ("unknown", False)
        await agent.get("update_my_status", **second, status="working")
        after = await agent.get("check_partner_status", **first)
        assert (after["session_id"], after["status"], after["alive"]) == ("b", "working", True)

    one(story)


def test_a_partner_may_be_a_shard(one: One) -> None:
    async def story(agent: Agent) -> None:
        made = await agent.get(
            "create_conversation", my_role="me", partner_role="memory", shard="main"
        )
        mine = {"conversation_id": made["conversation_id"], "token": made["session_a_token"]}
        sent = await agent.get("send_to_partner", **mine, message="hello")
        answer = await agent.get("get_answer", id=sent["id"], timeout=30)
        assert answer["answer"] == "hello"
        (message,) = (await agent.get("check_messages", **mine))["messages"]
        assert (message["message"], message["metadata"]["in_reply_to"]) == ("hello", sent["id"])
        text = await agent.refused(
            "check_messages",
            conversation_id=made["conversation_id"],
            token=made["session_b_token"],
        )
        assert "answered by shard main" in text

    one(story)


def test_looking_changes_nothing(place: Place, one: One) -> None:
    async def story(agent: Agent) -> None:
        made = await agent.get("create_conversation", my_role="me", partner_role="you")
        mine = {"conversation_id": made["conversation_id"], "token": made["session_a_token"]}
        yours = mine | {"token": made["session_b_token"]}
        asked = await agent.get("ask", question="why?")
        sent = await agent.get("send_to_partner", **mine, message="unread")
        before = rows(place)
        for _ in range(2):
            looked = await agent.get("recent_messages", **yours)
            assert [(each["id"], each["read"]) for each in looked["messages"]] == [
                (sent["id"], False)
            ]
        await agent.get("recent_messages")
        await agent.get("get_answer", id=asked["id"])
        traced = await agent.get("trace_question", id=asked["id"])
        assert traced["events"][-1]["state"] == "answered"
        await agent.get("list_shards")
        await agent.get("list_queue")
        await agent.get("check_partner_status", **mine)
        for each in (await agent.client.list_resources()).resources:
            await agent.client.read_resource(each.uri)
        await agent.client.get_prompt("ask_a_shard", {"shard": "main"})
        assert rows(place) == before
        assert len((await agent.get("check_messages", **yours))["messages"]) == 1

    one(story)


def test_a_shard_is_paused_and_a_question_to_it_is_taken_back(one: One) -> None:
    async def story(agent: Agent) -> None:
        paused = await agent.get("pause_shard", shard="main", reason="a look")
        assert "a look" in paused["words"]
        number = (await agent.get("ask", question="why?", timeout=0))["id"]
        [shown] = (await agent.get("list_queue", shard="main"))["questions"]
        assert (shown["id"], shown["paused"]) == (number, paused["words"])
        assert (await agent.get("cancel_question", id=number))["outcome"] == "cancelled"
        assert (await agent.get("list_queue"))["questions"] == []
        resumed = await agent.get("resume_shard", shard="main")
        assert (len(resumed["ended"]), resumed["paused"]) == (1, None)

    one(story)


def test_the_shards_are_listed_with_what_they_are_up_to(one: One) -> None:
    async def story(agent: Agent) -> None:
        listed = await agent.get("list_shards")
        assert listed["running"]
        assert {each["name"]: each["backend"] for each in listed["shards"]} == {
            "main": "echo",
            "slow": "echo",
            "docs": "extract",
            "writer": "command",
        }

    one(story)


def test_what_was_said_is_a_resource(one: One) -> None:
    async def story(agent: Agent) -> None:
        made = await agent.get("create_conversation", my_role="Ann", partner_role="Bob")
        number = made["conversation_id"]
        await agent.get(
            "send_to_partner", conversation_id=number, token=made["session_a_token"], message="Hi!"
        )
        listed = (await agent.client.list_resources()).resources
        assert (listed[0].name, listed[0].title) == (number, "Ann and Bob")
        (read,) = (await agent.client.read_resource(listed[0].uri)).contents
        assert "a to b" in read.text
        assert "Hi!" in read.text
        assert made["session_a_token"] not in read.text
        (template,) = (await agent.client.list_resource_templates()).resource_templates
        assert template.uri_template == "autopoll://conversations/{id}"
        for wrong in ("autopoll://conversations/conv_none", "autopoll://x", "file:///etc/passwd"):
            with pytest.raises(MCPError, match="there is no"):
                await agent.client.read_resource(wrong)

    one(story)


def test_the_prompt_explains_how_to_ask_and_names_the_shards(one: One) -> None:
    async def story(agent: Agent) -> None:
        (prompt,) = (await agent.client.list_prompts()).prompts
        got = await agent.client.get_prompt(prompt.name, {"shard": "docs", "question": "Gates?"})
        text = got.messages[0].content.text
        for part in ("the shard docs", "- docs: backend extract, knows notes", "Gates?"):
            assert part in text
        with pytest.raises(MCPError, match="there are: main, slow, docs, writer"):
            await agent.client.get_prompt(prompt.name, {"shard": "nobody"})
        assert "get_answer" in agent.client.instructions

    one(story)


UGLY: list[tuple[str, dict[str, Any], str]] = [
    ("ask", {}, "lacks the argument 'question'"),
    ("ask", {"question": ""}, "question: Expected 'str' of length >= 1"),
    ("ask", {"question": "  \n"}, "the question is empty"),
    ("ask", {"question": "a\0b"}, "NUL"),
    ("ask", {"question": 5}, "question: Expected 'str', got 'int'"),
    ("ask", {"question": None}, "question: Expected 'str', got 'null'"),
    ("ask", {"question": ["why?"]}, "got 'array'"),
    ("ask", {"question": "?", "context_file": "f" * 4097}, "of length <= 4096"),
    ("ask", {"question": "?", "key": "two words"}, "key: Expected"),
    ("ask", {"question": "?", "shard": "nobody"}, "There are: main, slow, docs, writer."),
    ("ask", {"question": "?", "shard": "../main"}, "there is no shard"),
    ("ask", {"question": "?", "timeout": -1}, "timeout: Expected"),
    ("ask", {"question": "?", "timeout": 1e9}, "timeout: Expected"),
    ("ask", {"question": "?", "timeout": "5"}, "timeout: Expected"),
    ("ask", {"question": "?", "temperature": 1}, "there is no argument 'temperature'"),
    ("get_answer", {}, "lacks the argument 'id'"),
    ("get_answer", {"id": 0}, "id: Expected 'int' >= 1"),
    ("get_answer", {"id": -5}, "id: Expected"),
    ("get_answer", {"id": 999_999}, "there is no question 999999"),
    ("get_answer", {"id": 2**63 - 1}, f"there is no question {2**63 - 1}"),
    ("get_answer", {"id": 2**63}, "id: Expected"),
    ("get_answer", {"id": 10**40}, "id: Expected"),
    ("get_answer", {"id": "1"}, "id: Expected 'int', got 'str'"),
    ("get_answer", {"id": 1.5}, "id: Expected"),
    ("get_answer", {"id": True}, "id: Expected"),
    ("get_answer", {"id": None}, "id: Expected"),
    ("list_shards", {"all": True}, "Its arguments: none."),
    ("create_conversation", {}, "lacks the argument 'my_role'"),
    ("create_conversation", {"my_role": "a", "partner_role": ""}, "partner_role: Expected"),
    ("create_conversation", {"my_role": "a" * 101, "partner_role": "b"}, "my_role: Expected"),
    ("create_conversation", {"my_role": {}, "partner_role": "b"}, "my_role: Expected"),
    (
        "create_conversation",
        {"my_role": "a", "partner_role": "b", "shard": "nobody"},
        "there is no shard 'nobody'",
    ),
    ("send_to_partner", {"message": "hi"}, "conversation_id is missing"),
    ("send_to_partner", {"message": "", "conversation_id": "c"}, "message: Expected"),
    ("send_to_partner", {"conversation_id": "none", "message": "hi"}, "there is no conversation"),
    (
        "send_to_partner",
        {"conversation_id": "none", "token": "x", "message": "hi"},
        "there is no conversation",
    ),
    ("send_to_partner", {"conversation_id": "'; DROP", "message": "hi"}, "no conversation"),
    ("send_to_partner", {"message": "hi", "session_id": "c"}, "session_id: Invalid"),
    ("send_to_partner", {"message": "hi", "action_type": "shout"}, "action_type: Invalid"),
    ("send_to_partner", {"message": "hi", "files_involved": "a"}, "files_involved: Expected"),
    ("send_to_partner", {"message": "hi", "files_involved": ["a"] * 21}, "length <= 20"),
    ("send_to_partner", {"message": "hi", "token": "t" * 201}, "token: Expected"),
    ("check_messages", {}, "conversation_id is missing"),
    ("check_messages", {"conversation_id": "none"}, "there is no conversation"),
    ("check_messages", {"conversation_id": "c", "limit": 0}, "limit: Expected"),
    ("check_messages", {"conversation_id": "c", "limit": 101}, "limit: Expected"),
    ("check_messages", {"conversation_id": "c" * 201}, "conversation_id: Expected"),
    ("recent_messages", {"conversation_id": "none"}, "there is no conversation"),
    ("recent_messages", {"after": -1}, "after: Expected"),
    ("recent_messages", {"token": "x"}, "conversation_id is missing"),
    ("update_my_status", {"conversation_id": "c"}, "lacks the argument 'status'"),
    ("update_my_status", {"conversation_id": "none", "status": "up"}, "no conversation"),
    ("update_my_status", {"conversation_id": "c", "status": "s" * 101}, "status: Expected"),
    ("check_partner_status", {}, "conversation_id is missing"),
    ("check_partner_status", {"conversation_id": "none"}, "there is no conversation"),
    ("check_partner_status", {"session_id": 1}, "session_id: Expected"),
    ("execute_command", {"command": "id"}, "There are: ask, get_answer, trace_question,"),
    ("", {}, "there is no tool ''"),
]


def test_what_a_caller_does_wrong_is_answered_by_how_to_mend_it(one: One) -> None:
    async def story(agent: Agent) -> None:
        for tool, arguments, said in UGLY:
            text = await agent.refused(tool, **arguments)
            assert said in text, f"{tool} {str(arguments)[:80]}: {text}"
            assert "Traceback" not in text
        made = await agent.get("create_conversation", my_role="me", partner_role="you")
        number, token = made["conversation_id"], made["session_a_token"]
        for more, said in (
            ({}, "nothing proves that you are session a"),
            ({"session_id": "b"}, "nothing proves that you are session b"),
            ({"token": "0" * 64}, "does not open conversation"),
            ({"token": token, "session_id": "b"}, "proves session a"),
        ):
            text = await agent.refused("check_messages", conversation_id=number, **more)
            assert said in text
            assert token not in text
        assert (await agent.get("ask", question="still there?"))["answer"] == "still there?"

    one(story)
