"""`autopoll mcp` and lines that are no message: each is answered, and the next one served."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from place import Place

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def call(question: object, number: object = 7) -> bytes:
    params = {"name": "ask", "arguments": {"question": question, "timeout": 0}}
    return json.dumps(PING | {"id": number, "method": "tools/call", "params": params}).encode()


class Agent:
    """A client that writes bytes and reads lines."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.process = subprocess.Popen(
            [*place.command, "mcp"], cwd=place.root, env=place.environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.write(
            b'\xef\xbb\xbf{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {'
            b'"protocolVersion": "2025-06-18", "capabilities": {},'
            b'"clientInfo": {"name": "t", "version": "1"}}}\r\n'
        )
        assert self.hear()["id"] == 0
        self.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\r\n')

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        message = json.loads(self.process.stdout.readline())
        assert message["jsonrpc"] == "2.0"
        return message

    def end(self, last: bytes = b"") -> list[dict[str, Any]]:
        """Close stdin and return what is still said; all of it must be messages."""
        out, errors = self.process.communicate(last, timeout=60)
        assert (self.process.returncode, errors) == (0, b"")
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("refusals") / "home")  # of which nothing needs to run
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(place: Place) -> Iterator[Agent]:
    made = Agent(place)
    yield made
    assert made.end() == []


@pytest.mark.parametrize(
    ("line", "errors"),
    [
        (b"not JSON", [(-32700, None)]),
        (b"\xff\xfe\x00", [(-32700, None)]),
        (b"[" * 100_000, [(-32700, None)]),
        (b"x" * 40_000_000, [(-32600, None)]),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', [(-32600, None)]),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', [(-32600, 1.5)]),
        (b'{"jsonrpc": "2.0", "id": 900}', [(-32600, 900)]),
        (b"[]", [(-32600, None)]),
        (json.dumps([PING, PING | {"id": "b"}]).encode(), [(-32600, 1), (-32600, "b")]),
        (call("half \ud83d"), [(-32602, 7)]),
        (call("x", "\udce9"), [(-32602, "\udce9")]),
        (json.dumps(PING | {"id": 8, "method": "no/such"}).encode(), [(-32601, 8)]),
        (json.dumps(PING | {"id": 8, "method": "tools/call"}).encode(), [(-32602, 8)]),
    ],
    ids=lambda value: ascii(value[:20]) if isinstance(value, bytes) else "",
)
def test_every_id_is_answered_and_what_comes_next_is_served(agent: Agent, line, errors) -> None:
    agent.write(line + b"\n")
    heard = [agent.hear() for _ in errors]
    assert [(each["error"]["code"], each["id"]) for each in heard] == errors
    assert all(each["error"]["message"] for each in heard)
    agent.write(json.dumps(PING | {"id": 99}).encode() + b"\n")
    assert agent.hear() == {"jsonrpc": "2.0", "id": 99, "result": {}}


@pytest.mark.parametrize(
    "question", ["\0", "", " ", True, None, 1.5, [], {}, "x" * 1_000_001, [[[]]]], ids=lambda _: ""
)
def test_whatever_stands_in_an_argument_is_answered_by_the_tool(agent: Agent, question) -> None:
    agent.write(call(question) + b"\n")
    while (heard := agent.hear()).get("id") != 7:
        pass
    assert heard["result"]["isError"]
    assert "bug" not in heard["result"]["content"][0]["text"]


def test_what_nobody_waits_for_is_not_answered_and_is_logged(place: Place, agent: Agent) -> None:
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/x", "params": {"a": "\ud83d"}},
        {"jsonrpc": "2.0", "id": 5, "result": {"a": "\ud83d"}},
    ):
        agent.write(json.dumps(message).encode() + b"\r\n\r\n  \n")
    agent.write(json.dumps(PING | {"id": 99}).encode() + b"\n")
    assert agent.hear()["id"] == 99
    agent.write(b"not JSON\n")
    assert agent.hear()["error"]["code"] == -32700
    log = (place.home.log / "mcp.log").read_text()
    assert "refused: Invalid params: params.a holds half of a surrogate pair" in log
    assert "refused: Parse error" in log


@pytest.mark.long
def test_half_a_line_at_the_end_is_told_and_a_whole_one_is_read(place: Place) -> None:
    [told] = Agent(place).end(b'{"jsonrpc": "2.0", "id": 1, "meth')
    assert (told["error"]["code"], told["id"]) == (-32700, None)
    [told] = Agent(place).end(b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}')
    assert (told["error"]["code"], told["id"]) == (-32600, 1.5)
