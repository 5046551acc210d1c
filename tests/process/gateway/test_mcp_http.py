"""Agents at the gateway: who may do what, and what becomes of them when it ends."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import apsw
import httpx2
import pytest
import uvicorn
from agents import Agent, Door, at_gateway, at_stdio, eventually, free_port, play, text_of
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification
from place import Place

from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.http import McpEndpoint
from autopoll.home.config import load

CONFIG = """
[shards.main]
backend = "echo"
options = {{ concurrency = 8 }}
[shards.slow]
backend = "echo"
options = {{ delay = "3s", concurrency = 8 }}
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
"""
MODES = ["auto", "legacy"]


class Gateway:
    """A home with a gateway, and the tokens that open it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = f"http://{load(place.home, {}).gateway.listen}"
        self.operator = place.json("gateway", "token")["token"]

    def door(self, token: str | None = None, mode: str = "auto") -> Door:
        return lambda: at_gateway(self.url, token or self.operator, mode)

    def converse(self, *args: str) -> tuple[str, str, str]:
        """Create a conversation and return its id and its two tokens."""
        made = self.place.json("conversations", "create", *args)
        return made["conversation"], made["tokens"]["a"], made["tokens"]["b"]

    def audited(self) -> list[Any]:
        """Return what was refused, and how often."""
        db = apsw.Connection(
            str(self.place.home.var / "bridge.db"), flags=apsw.SQLITE_OPEN_READONLY
        )
        with closing(db):
            return [
                (conversation, json.loads(details)["why"])
                for conversation, details in db.execute(
                    "SELECT conversation_id, details FROM audit_log WHERE action='access_denied'"
                )
            ]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    place = Place(tmp_path_factory.mktemp("http") / "home", CONFIG.format(port=free_port()))
    try:
        place.run("up")
        yield Gateway(place)
    finally:
        place.close()


def visit(door: Door, story: Callable[[Agent], Any]) -> Any:
    async def main() -> Any:
        async with door() as agent:
            return await story(agent)

    return play(main)


def test_a_token_of_a_conversation_opens_that_conversation_and_nothing_else(
    gateway: Gateway,
) -> None:
    mine, token, partner = gateway.converse("--role-a", "Ann", "--shard", "main")
    other, other_token, _ = gateway.converse()
    foreign = gateway.place.ask("whose?")["id"]

    async def story(agent: Agent) -> None:
        answer = await agent.get("ask", question="mine?")
        assert (answer["answer"], answer["shard"]) == ("mine?", "main")
        assert (await agent.get("get_answer", id=answer["id"]))["answer"] == "mine?"
        assert [each["name"] for each in (await agent.get("list_shards"))["shards"]] == ["main"]
        looked = await agent.get("recent_messages")
        assert {each["conversation_id"] for each in looked["messages"]} == {mine}
        sent = await agent.get("send_to_partner", message="and this?")
        assert (await agent.get("get_answer", id=sent["id"], timeout=30))["answer"] == "and this?"
        assert (await agent.get("update_my_status", status="working"))["session_id"] == "a"
        assert (await agent.get("check_partner_status"))["session_id"] == "b"
        (listed,) = (await agent.client.list_resources()).resources
        assert listed.name == mine

        missing = await agent.refused("get_answer", id=999_999)
        there = await agent.refused("get_answer", id=foreign)
        assert there.replace(str(foreign), "N") == missing.replace("999999", "N")
        for tool in ("send_to_partner", "check_messages", "recent_messages"):
            more = {"message": "hi"} if tool == "send_to_partner" else {}
            text = await agent.refused(tool, conversation_id=other, **more)
            none = await agent.refused(tool, conversation_id="conv_none", **more)
            assert text.replace(other, "X") == none.replace("conv_none", "X")
            # Not even the right token for it: one request shows one token.
            await agent.refused(tool, conversation_id=other, token=other_token, **more)
        with pytest.raises(MCPError, match=f"there is no conversation '{other}'"):
            await agent.client.read_resource(f"autopoll://conversations/{other}")
        text = await agent.refused("create_conversation", my_role="x", partner_role="y")
        assert "operator's token" in text
        assert "does not answer in this conversation" in await agent.refused(
            "ask", question="?", shard="slow"
        )
        assert "you are session a" in await agent.refused("check_messages", session_id="b")
        assert "you are session a" in await agent.refused("check_messages", token=partner)

    visit(gateway.door(token), story)
    assert (mine, "not for this token") in gateway.audited()


def test_each_request_is_proven_anew(gateway: Gateway) -> None:
    conversation, token, _ = gateway.converse()

    async def story(agent: Agent) -> None:
        await agent.get("recent_messages")
        await asyncio.to_thread(gateway.place.run, "conversations", "revoke", conversation, "a")
        with pytest.raises(MCPError):
            await agent.client.call_tool("recent_messages", {})

    visit(gateway.door(token), story)


def test_nobody_is_let_in_without_a_token_or_from_elsewhere(gateway: Gateway) -> None:
    right = {"Authorization": f"Bearer {gateway.operator}"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream"}
    for more, status in (
        ({}, 401),
        ({"Authorization": "Bearer " + "0" * 64}, 401),
        ({"Authorization": "Basic " + gateway.operator}, 401),
        (right | {"Origin": "http://evil.example"}, 403),
        (right | {"Host": "evil.example"}, 421),
        (right, 200),
    ):
        answer = httpx2.post(f"{gateway.url}/mcp", json=message, headers=headers | more)
        assert answer.status_code == status, more
        assert gateway.operator not in answer.text
        if status != 200:
            assert answer.json()["type"].startswith("urn:autopoll:problem:")
    large = httpx2.post(f"{gateway.url}/mcp", content=b" " * 2_000_000, headers=headers | right)
    assert large.status_code == 413
    for method in ("GET", "DELETE"):
        assert httpx2.request(method, f"{gateway.url}/mcp", headers=right).status_code == 405


BODIES = [b"", b"{", b"null", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"jsonrpc":"2.0"}', b"{}"]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("version", [None, "2025-06-18", "2026-07-28", "never"])
def test_bad_bodies_are_refused_and_survived(
    gateway: Gateway, body: bytes, version: str | None
) -> None:
    headers = {
        "Authorization": f"Bearer {gateway.operator}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
    }
    more = {"MCP-Protocol-Version": version} if version else {}
    answer = httpx2.post(f"{gateway.url}/mcp", content=body, headers=headers | more)
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_gateway_killed_in_the_middle_of_a_question_loses_nothing(
    gateway: Gateway, mode: str
) -> None:
    question = {"question": "through it?", "shard": "slow", "key": os.urandom(8).hex()}

    async def story() -> None:
        async with gateway.door(mode=mode)() as agent:
            asking = asyncio.create_task(agent.call("ask", **question))
            told = await eventually(lambda: agent.told, "to be told of the question")
            killed = await asyncio.to_thread(gateway.place.kill, "gateway")
            with pytest.raises((MCPError, httpx2.HTTPError)):
                await asking
        number = int(told[0].split()[1])
        await eventually(
            lambda: (beat := gateway.place.beat("gateway")) and beat.pid not in (0, killed),
            "a new gateway",
        )
        await asyncio.to_thread(gateway.place.ready, "gateway")
        async with gateway.door(mode=mode)() as agent:
            answer = await agent.get("get_answer", id=number, timeout=30)
            assert answer["answer"] == "through it?"
            again = await agent.get("ask", **question)
            assert again["id"] == number

    play(story)


@pytest.mark.parametrize("mode", MODES)
def test_a_gateway_that_ends_says_that_the_question_is_kept(gateway: Gateway, mode: str) -> None:
    async def story() -> None:
        async with gateway.door(mode=mode)() as agent:
            asking = asyncio.create_task(agent.call("ask", question="kept?", shard="slow"))
            await eventually(lambda: agent.told, "to be told of the question")
            await asyncio.to_thread(gateway.place.run, "restart", "gateway")
            result = await asking
            assert result.structured_content["status"] == "pending"
            number = result.structured_content["id"]
            assert f"get_answer, id {number}" in text_of(result)
            # The same client goes on, as there is no session that could be lost.
            answer = await agent.get("get_answer", id=number, timeout=30)
            assert answer["answer"] == "kept?"

    play(story)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
def test_a_subscription_survives_a_restart_of_the_gateway(gateway: Gateway) -> None:
    conversation, token, _ = gateway.converse("--shard", "main")
    updated = []

    async def note(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            updated.append(message.params.uri)

    async def story() -> None:
        async with at_gateway(gateway.url, token, "legacy", message_handler=note) as agent:
            uri = f"autopoll://conversations/{conversation}"
            await agent.client.subscribe_resource(uri)
            await agent.get("ask", question="before?")
            await eventually(lambda: updated, "the notification")
            await asyncio.to_thread(gateway.place.run, "restart", "gateway")
            updated.clear()
            await agent.get("ask", question="after?")
            await eventually(lambda: updated, "another one")
            assert set(updated) == {uri}

    play(story)


@pytest.mark.long
def test_the_same_question_is_fetched_through_another_door(gateway: Gateway) -> None:
    async def story() -> None:
        async with gateway.door()() as there, at_stdio(gateway.place) as here:
            asked = await there.get("ask", question="both?", shard="slow", timeout=0)
            waiting = [
                asyncio.create_task(agent.get("get_answer", id=asked["id"], timeout=30))
                for agent in (there, here)
            ]
            first, second = await asyncio.gather(*waiting)
            assert first == second
            assert first["answer"] == "both?"

    play(story)


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_ask_costs_the_gateway_nothing_more(gateway: Gateway, mode: str) -> None:
    async def story() -> None:
        home = gateway.place.home
        listener = socket.create_server(("127.0.0.1", 0))
        async with Hub(home, load(home, {})) as hub, McpEndpoint(hub) as door:
            server = uvicorn.Server(uvicorn.Config(door, lifespan="off", log_config=None))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await eventually(lambda: server.started, "the server")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                at_gateway(url, gateway.operator, mode) as agent,
                at_gateway(url, gateway.operator, mode) as other,
            ):
                # Both count their requests from the same number on.
                asking, staying = [
                    asyncio.create_task(each.call("ask", question="no?", shard="slow"))
                    for each in (agent, other)
                ]
                await eventually(lambda: hub.waiting == 2, "the waiting")
                asking.cancel()
                await eventually(lambda: hub.waiting == 1, "the end of the waiting", seconds=2)
                assert (await staying).structured_content["answer"] == "no?"
                assert (await agent.get("ask", question="again?"))["answer"] == "again?"
            server.should_exit = True
            await serving

    play(story)
