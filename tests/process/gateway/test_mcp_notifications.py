"""What agents are notified of between their requests: new messages in transcripts, and the log."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from agents import eventually, play
from bridge_calls import ask
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LoggingMessageNotificationParams,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
)
from place import Place

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Tokens
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp import notification_stream, subscribers
from autopoll.gateway.mcp.http import McpEndpoint
from autopoll.gateway.mcp.mcp_server import McpServer
from autopoll.gateway.mcp.stdio_transport import StdioTransport
from autopoll.gateway.mcp.stream_cursor import MOST, StreamCursor
from autopoll.home.config import load

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
TEMPLATE = ResourceTemplateReference(type="ref/resource", uri="autopoll://conversations/{id}")
PROMPT = PromptReference(type="ref/prompt", name="ask_a_shard")
SHARDS = "".join(f'[shards.{name}]\nbackend = "echo"\n' for name in ("main", "map", "slow"))


def uri(conversation: str) -> str:
    return f"autopoll://conversations/{conversation}"


class Listener:
    """A client of the handshake era, and what it was notified of."""

    def __init__(self) -> None:
        self.updated: list[str] = []
        self.logged: list[tuple[str, str]] = []
        self.client: Client

    async def note(self, message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            self.updated.append(message.params.uri)

    async def note_log(self, params: LoggingMessageNotificationParams) -> None:
        self.logged.append((params.level, params.data))

    @contextlib.asynccontextmanager
    async def at(self, server: Any) -> AsyncIterator["Listener"]:
        """Shake hands with a server, or over a transport."""
        async with Client(
            server, mode="legacy", message_handler=self.note, logging_callback=self.note_log
        ) as self.client:
            yield self


class Scene:
    """A home of which nothing runs, and another program that writes into its bridge."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.bridge: Bridge = place.bridge()
        self.operator = place.json("gateway", "token")["token"]
        self.config = load(place.home, {})

    def converse(self) -> Tokens:
        return self.bridge.conversations.create("x", "y")

    def say(self, conversation: str, text: str = "news") -> None:
        ask(self.bridge, conversation, text)

    @contextlib.asynccontextmanager
    async def gateway(self, port: int = 0) -> AsyncIterator[tuple[str, McpEndpoint]]:
        """Serve over HTTP, and end as the gateway does."""
        listener = socket.create_server(("127.0.0.1", port))
        async with Hub(self.place.home, self.config) as hub, McpEndpoint(hub) as endpoint:
            server = uvicorn.Server(uvicorn.Config(endpoint, lifespan="off", log_config=None))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await eventually(lambda: server.started, "the server")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", endpoint
            endpoint.drain()
            server.should_exit = True
            await serving

    @contextlib.asynccontextmanager
    async def listener(self, url: str, token: str | None = None) -> AsyncIterator[Listener]:
        headers = {"Authorization": f"Bearer {token or self.operator}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Listener().at(streamable_http_client(url, http_client=http)) as listener,
        ):
            yield listener

    @contextlib.asynccontextmanager
    async def at_door(self, door: str) -> AsyncIterator[Listener]:
        """Be the operator over HTTP, or the owner at the other end of a pipe."""
        if door == "http":
            async with self.gateway() as (url, _), self.listener(url) as listener:
                yield listener
            return
        async with (
            Hub(self.place.home, self.config) as hub,
            StdioTransport(hub) as opened,
            Listener().at(McpServer(opened)) as listener,
        ):
            yield listener


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = Place(tmp_path_factory.mktemp("notifications") / "home", SHARDS)
    made = Scene(place)
    yield made
    made.bridge.close()
    place.close()


async def refused(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(MCPError) as caught:
        await call
    return caught.value.code, caught.value.message


DOORS = pytest.mark.parametrize("door", ["http", "stdio"])


@DOORS
def test_an_agent_is_notified_of_new_messages_until_it_unsubscribes(
    scene: Scene, door: str
) -> None:
    mine, other = scene.converse().conversation, scene.converse().conversation

    async def story() -> None:
        async with scene.at_door(door) as listener:
            scene.say(mine, "before")
            await listener.client.subscribe_resource(uri(mine))
            await listener.client.subscribe_resource(uri(mine))
            scene.say(other)
            scene.say(mine)
            await eventually(lambda: listener.updated, "the notification")
            scene.say(mine)
            await eventually(lambda: len(listener.updated) == 2, "another one")
            read = await listener.client.read_resource(uri(mine))
            assert "3 messages" in read.contents[0].text
            await listener.client.unsubscribe_resource(uri(mine))
            await listener.client.subscribe_resource(uri(other))
            scene.say(mine)
            scene.say(other)
            await eventually(lambda: len(listener.updated) == 3, "that of the other one")
            assert listener.updated == [uri(mine), uri(mine), uri(other)]

    play(story)


def test_a_client_without_handshake_listens_for_as_long_as_it_likes(scene: Scene) -> None:
    made = scene.converse()

    async def story() -> None:
        async with (
            scene.gateway() as (url, endpoint),
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {made.a}"}, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode="2026-07-28") as client,
        ):
            for which in (uri("conv_none"), uri(scene.converse().conversation)):
                wanted = client.listen(resource_subscriptions=[uri(made.conversation), which])
                code, message = await refused(wanted.__aenter__())
                assert (code, "there is no conversation" in message) == (INVALID_PARAMS, True)
            wanted = client.listen(
                resource_subscriptions=[uri(made.conversation)], tools_list_changed=True
            )
            async with wanted as listening:
                assert listening.honored.resource_subscriptions == [uri(made.conversation)]
                assert not listening.honored.tools_list_changed
                for _ in range(2):
                    scene.say(made.conversation)
                    assert (await anext(listening)).uri == uri(made.conversation)
            await eventually(lambda: not endpoint.watch.is_wanted, "the end of the watching")
            async with client.listen(resource_subscriptions=[uri(made.conversation)]) as listening:
                endpoint.drain()
                assert [each async for each in listening] == []

    play(story)


def test_a_token_that_was_revoked_gets_no_notification(scene: Scene) -> None:
    made = scene.converse()

    async def story() -> None:
        async with (
            scene.gateway() as (url, endpoint),
            scene.listener(url, made.a) as revoked,
            scene.listener(url, made.b) as other,
        ):
            for each in (revoked, other):
                await each.client.subscribe_resource(uri(made.conversation))
            scene.bridge.conversations.revoke_token(made.conversation, "a")
            for number in range(1, 5):  # by the last one, the first would have come to both
                scene.say(made.conversation)
                await eventually(lambda n=number: len(other.updated) >= n, "the notification")
            assert not revoked.updated
            assert endpoint.watch.is_wanted

    play(story)


def test_a_restart_of_the_gateway_loses_no_subscription_and_no_message(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene.converse()
    monkeypatch.setattr(notification_stream, "RETRY_S", 1)

    async def serve(port: int, url: "asyncio.Future[str]", end: asyncio.Event) -> None:
        async with scene.gateway(port) as (served, _):
            url.set_result(served)
            await end.wait()

    async def story() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        url = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(0, url, first))
        async with scene.listener(await url, made.a) as listener:
            await listener.client.set_logging_level("info")
            await listener.client.subscribe_resource(uri(made.conversation))
            scene.say(made.conversation)
            await eventually(lambda: listener.updated, "the notification")
            first.set()
            await serving
            scene.say(made.conversation, "while it is down")
            port = int((await url).split(":")[2].split("/")[0])
            again = asyncio.get_running_loop().create_future()
            serving = asyncio.create_task(serve(port, again, second))
            await eventually(lambda: len(listener.updated) == 2, "what was missed")
            scene.say(made.conversation)
            await eventually(lambda: len(listener.updated) == 3, "what came after it")
            await refused(listener.client.read_resource("autopoll://no"))
            await eventually(lambda: listener.logged, "the log")
        second.set()
        await serving

    play(story)


@pytest.mark.parametrize("last", ["", "!", "AAAA", str(StreamCursor(2**63 - 1, ("conv_none",)))])
def test_a_made_up_event_id_opens_nothing(scene: Scene, last: str) -> None:
    made, other = scene.converse(), scene.converse()
    forged = str(StreamCursor(0, (other.conversation, "conv_none")))

    async def story() -> None:
        async with scene.gateway() as (url, endpoint), httpx2.AsyncClient(timeout=60) as http:
            headers = {
                "Authorization": f"Bearer {made.a}",
                "Accept": "text/event-stream",
                "Mcp-Session-Id": "mine",
                "MCP-Protocol-Version": "2025-11-25",
            }
            for text in (last, forged):
                more = {"Last-Event-ID": text}
                async with http.stream("GET", url, headers=headers | more) as answer:
                    assert answer.status_code == 200
                    first = await anext(answer.aiter_text())
                    found = first.split("id: ")[1].split("\r\n")[0]
                    cursor = StreamCursor.parse(found)
                    assert cursor
                    assert cursor.conversations == ()
            assert not endpoint.watch.is_wanted

    play(story)


def test_the_end_of_a_session_ends_its_subscriptions(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene.converse()

    async def story() -> None:
        async with scene.gateway() as (url, endpoint):
            async with scene.listener(url, made.a) as listener:
                await listener.client.subscribe_resource(uri(made.conversation))
                assert endpoint.watch.is_wanted
            # The client has said by DELETE that it ends.
            await eventually(lambda: not endpoint.watch.is_wanted, "the end of it", seconds=5)
            monkeypatch.setattr(subscribers, "IDLE_S", 0.1)
            headers = {
                "Authorization": f"Bearer {made.a}",
                "Accept": "application/json, text/event-stream",
                "Mcp-Session-Id": "gone without a word",
            }
            params = {"uri": uri(made.conversation)}
            message = {
                "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": params,
            }  # fmt: skip
            async with httpx2.AsyncClient(headers=headers) as http:
                assert (await http.post(url, json=message)).status_code == 200
                await eventually(lambda: not endpoint.watch.is_wanted, "the same", seconds=5)
                assert (await http.delete(url)).status_code == 204
                assert (await http.post(url, json=message)).status_code == 404
                assert (await http.get(url)).status_code == 404

    play(story)


def test_a_stream_that_breaks_may_be_opened_again_for_a_while(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = scene.converse()
    headers = {
        "Authorization": f"Bearer {made.a}",
        "Accept": "application/json, text/event-stream",
        "Mcp-Session-Id": "broken",
    }
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "resources/subscribe",
        "params": {"uri": uri(made.conversation)},
    }

    async def story() -> None:
        async with (
            scene.gateway() as (url, endpoint),
            httpx2.AsyncClient(headers=headers, timeout=20) as http,
        ):
            async with http.stream("GET", url):
                assert (await http.post(url, json=message)).status_code == 200
            # The second stream of a client ends the first.
            async with http.stream("GET", url) as first, http.stream("GET", url) as second:
                assert [each async for each in first.aiter_text()] == []
                scene.say(made.conversation)
                assert uri(made.conversation) in await anext(second.aiter_text())
                monkeypatch.setattr(subscribers, "IDLE_S", 0.1)
            await eventually(lambda: not endpoint.watch.is_wanted, "the end of it", seconds=5)

    play(story)
    assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.long
@DOORS
def test_very_many_subscriptions_are_bounded_and_the_first_go_on(scene: Scene, door: str) -> None:
    many = [scene.converse().conversation for _ in range(MOST + 6)]

    async def story() -> None:
        async with scene.at_door(door) as listener:
            for conversation in many[:MOST]:
                await listener.client.subscribe_resource(uri(conversation))
            again = (many[number % MOST] for number in range({"http": 200, "stdio": 1000}[door]))
            await asyncio.gather(*(listener.client.subscribe_resource(uri(x)) for x in again))
            for conversation in many[MOST:]:
                code, message = await refused(listener.client.subscribe_resource(uri(conversation)))
                assert (code, f"{MOST} transcripts" in message) == (INVALID_REQUEST, True)
            for conversation in (many[0], many[MOST - 1]):
                scene.say(conversation)
                await eventually(lambda: listener.updated, "the notification")
                assert listener.updated.pop() == uri(conversation)
            await listener.client.unsubscribe_resource(uri(many[0]))
            await listener.client.subscribe_resource(uri(many[-1]))

    play(story)


@DOORS
def test_the_log_is_sent_from_a_level_on(scene: Scene, door: str) -> None:
    async def story() -> None:
        server = logging.getLogger("autopoll.test")
        async with scene.at_door(door) as listener:
            server.error("before anybody asked")
            await listener.client.set_logging_level("warning")
            server.info("too low")
            server.warning("a token=%s of 3", "sk-ant-api03-" + "x" * 80)
            await eventually(lambda: listener.logged, "the warning")
            await listener.client.set_logging_level("debug")
            await listener.client.call_tool("list_shards", {})
            await refused(listener.client.read_resource("autopoll://no"))
            await eventually(lambda: len(listener.logged) >= 4, "what the requests led to")
            await listener.client.set_logging_level("emergency")
            server.critical("not an emergency")
            await listener.client.send_ping()
            levels = [level for level, _ in listener.logged]
            texts = "\n".join(text for _, text in listener.logged)
            assert levels[0] == "warning"
            assert "sk-ant" not in texts
            assert "tools/call list_shards took" in texts
            assert "resources/read was refused: there is no resource autopoll://no" in texts
            for never in ("before anybody", "too low", "not an emergency"):
                assert never not in texts

    play(story)


def test_a_session_sees_in_the_log_what_its_own_requests_lead_to(scene: Scene) -> None:
    made = scene.converse()

    async def story() -> None:
        async with (
            scene.gateway() as (url, _),
            scene.listener(url, made.a) as mine,
            scene.listener(url) as operator,
        ):
            for each in (mine, operator):
                await each.client.set_logging_level("debug")
            logging.getLogger("autopoll.test").error("of the whole home")
            await refused(operator.client.read_resource("autopoll://operator"))
            await refused(mine.client.read_resource("autopoll://mine"))
            await eventually(lambda: "://mine" in str(operator.logged), "the operator's log")
            await eventually(lambda: "://mine" in str(mine.logged), "the session's log")
            assert "of the whole home" in str(operator.logged)
            assert "of the whole home" not in str(mine.logged)
            assert "://operator" not in str(mine.logged)

    play(story)


@DOORS
def test_names_of_shards_and_conversations_are_completed(scene: Scene, door: str) -> None:
    newest = [scene.converse().conversation for _ in range(101)][::-1]

    async def story() -> None:
        async with scene.at_door(door) as listener:

            async def values(reference: Any, name: str, value: str) -> Any:
                completed = await listener.client.complete(
                    reference, {"name": name, "value": value}
                )
                return completed.completion

            assert (await values(PROMPT, "shard", "")).values == ["main", "map", "slow"]
            assert (await values(PROMPT, "shard", "MA")).values == ["main", "map"]
            assert (await values(PROMPT, "shard", "x" * 100_000)).values == []
            assert (await values(PROMPT, "question", "what")).values == []
            found = await values(TEMPLATE, "id", "conv_")
            assert found.values == newest[:100]
            assert (found.has_more, found.total >= 101) == (True, True)
            assert (await values(TEMPLATE, "id", newest[3])).values == [newest[3]]

    play(story)


def test_a_session_completes_nothing_but_its_own(scene: Scene) -> None:
    made, other = scene.converse(), scene.converse()
    scene.bridge.conversations.serve(made.conversation, "b", "map")

    async def story() -> None:
        async with scene.gateway() as (url, _), scene.listener(url, made.a) as mine:
            for reference, name, values in (
                (TEMPLATE, "id", [made.conversation]),
                (PROMPT, "shard", ["map"]),
            ):
                found = await mine.client.complete(reference, {"name": name, "value": ""})
                assert found.completion.values == values
            wanted = {"name": "id", "value": other.conversation}
            assert (await mine.client.complete(TEMPLATE, wanted)).completion.values == []
            for which in (other.conversation, "conv_none"):
                code, message = await refused(mine.client.subscribe_resource(uri(which)))
                assert (code, message) == (INVALID_PARAMS, f"there is no conversation '{which}'")

    play(story)


REQUESTS: list[tuple[str, Any, int]] = [
    ("completion/complete", None, -32602),
    ("completion/complete", {"ref": {"type": "ref/no", "name": "x"}}, -32602),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "no"}}, -32602),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "\0"}}, -32602),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": "autopoll://x"}}, -32602),
    ("completion/complete", {"argument": {"name": "no", "value": ""}}, -32602),
    ("completion/complete", {"argument": {"name": "shard", "value": 5}}, -32602),
    ("completion/complete", {"argument": {"name": "x" * 500_000, "value": ""}}, -32602),
    ("completion/complete", {"argument": {"name": "shard", "value": "\0"}}, 0),
    ("resources/subscribe", {}, -32602),
    ("resources/subscribe", {"uri": 5}, -32602),
    ("resources/subscribe", {"uri": ""}, -32602),
    ("resources/subscribe", {"uri": "file:///etc/passwd"}, -32602),
    ("resources/subscribe", {"uri": "autopoll://conversations/"}, -32602),
    ("resources/subscribe", {"uri": "autopoll://conversations/\0"}, -32602),
    ("resources/subscribe", {"uri": "autopoll://conversations/" + "x" * 500_000}, -32602),
    ("resources/subscribe", {"uri": "autopoll://conversations/*"}, -32602),
    ("resources/unsubscribe", {"uri": "autopoll://conversations/conv_none"}, -32602),
    ("resources/unsubscribe", {"uri": "autopoll://conversations/MINE"}, 0),
    ("logging/setLevel", {"level": "loud"}, -32602),
    ("logging/setLevel", {"level": "DEBUG"}, -32602),
    ("logging/setLevel", {"level": 3}, -32602),
    ("logging/setLevel", {}, -32602),
    ("subscriptions/listen", {"notifications": {}}, -32601),
]


def test_ugly_requests_are_refused_in_the_words_of_the_protocol(scene: Scene) -> None:
    made = scene.converse()
    whole = {
        "ref": {"type": "ref/prompt", "name": "ask_a_shard"},
        "argument": {"name": "shard", "value": ""},
    }

    async def story() -> None:
        headers = {
            "Authorization": f"Bearer {made.a}",
            "Accept": "application/json, text/event-stream",
            "Mcp-Session-Id": "ugly",
            "MCP-Protocol-Version": "2025-11-25",
        }
        async with (
            scene.gateway() as (url, endpoint),
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
        ):
            for method, params, code in REQUESTS:
                if method == "completion/complete" and params is not None:
                    params = whole | params
                if isinstance(params, dict) and str(params.get("uri")).endswith("MINE"):
                    params = {"uri": uri(made.conversation)}
                message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
                text = (await http.post(url, json=message)).text
                assert f'"code":{code}' in text if code else '"result"' in text, (
                    method,
                    text[:500],
                )
                assert "Traceback" not in text
                assert len(text) < 2000, (method, text[:500])
            assert not endpoint.watch.is_wanted
            del http.headers["Mcp-Session-Id"]
            for method, params in (
                ("resources/subscribe", {"uri": uri(made.conversation)}),
                ("logging/setLevel", {"level": "info"}),
            ):
                message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
                text = (await http.post(url, json=message)).text
                assert '"code":-32600' in text
                assert "Mcp-Session-Id is missing" in text
            for more, status in (
                ({}, 405),
                ({"Mcp-Session-Id": "x", "MCP-Protocol-Version": "2026-07-28"}, 405),
                ({"Mcp-Session-Id": "x", "Accept": "application/json"}, 406),
                ({"Mcp-Session-Id": "x", "Authorization": "Bearer no"}, 401),
            ):
                assert (await http.get(url, headers=more)).status_code == status

    play(story)
