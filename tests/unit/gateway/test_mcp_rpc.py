"""What is no message of JSON-RPC, and what its sender is told."""

import json

import pytest

from autopoll.gateway.mcp.rpc import parse

PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}


def told(data: bytes) -> list[tuple[int, object]]:
    """Return code and id of each error that is sent."""
    return [(error.code, error.id) for error in parse(data)[1] if error.is_sent]


@pytest.mark.parametrize(
    ("data", "errors"),
    [
        (b"not JSON", [(-32700, None)]),
        (b"{", [(-32700, None)]),
        (b"\xff\xfe", [(-32700, None)]),
        (b'{"id": 1, "id": 2}', [(-32700, None)]),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', [(-32700, None)]),
        (b"[" * 10_000 + b"]" * 10_000, [(-32700, None)]),
        (json.dumps(PING).encode("utf-16"), [(-32700, None)]),
        (b"null", [(-32600, None)]),
        (b'"text"', [(-32600, None)]),
        (b"[]", [(-32600, None)]),
        (b"[1, {}]", [(-32600, None)]),
        (json.dumps([PING, PING | {"id": "b"}]).encode(), [(-32600, 7), (-32600, "b")]),
        (json.dumps([{"jsonrpc": "2.0", "method": "x"}]).encode(), [(-32600, None)]),
        (b"{}", [(-32600, None)]),
        (b'{"jsonrpc": "2.0", "id": 7}', [(-32600, 7)]),
        (json.dumps(PING | {"jsonrpc": "1.0"}).encode(), [(-32600, 7)]),
        (json.dumps(PING | {"id": None}).encode(), [(-32600, None)]),
        (json.dumps(PING | {"id": 1.5}).encode(), [(-32600, 1.5)]),
        (json.dumps(PING | {"id": True}).encode(), [(-32600, None)]),
        (json.dumps(PING | {"id": {}}).encode(), [(-32600, None)]),
        (json.dumps(PING | {"method": 5}).encode(), [(-32600, 7)]),
        (json.dumps(PING | {"method": "\ud83d"}).encode(), [(-32602, 7)]),
        (json.dumps(PING | {"params": []}).encode(), [(-32602, 7)]),
        (json.dumps(CALL | {"params": {"question": "half \ud83d"}}).encode(), [(-32602, 7)]),
        (json.dumps(CALL | {"params": {"\udce9": 1}}).encode(), [(-32602, 7)]),
        (json.dumps([CALL | {"params": {"\udce9": 1}}]).encode(), [(-32600, 7)]),
        (json.dumps(CALL | {"id": "\ud83d"}).encode(), [(-32602, "\ud83d")]),
    ],
)
def test_what_is_no_message_gets_the_error_code_of_the_specification(data, errors) -> None:
    assert told(data) == errors
    for error in parse(data)[1]:
        line = error.line()
        assert line.isascii()
        assert json.loads(line)["error"]["code"] == error.code


def test_a_broken_notification_is_an_error_that_nobody_is_sent() -> None:
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/x", "params": {"a": "\ud83d"}},
        {"jsonrpc": "2.0", "method": "notifications/x", "params": []},
        {"jsonrpc": "2.0", "id": 7, "result": {"a": "\ud83d"}},
    ):
        data = json.dumps(message).encode()
        assert parse(data)[0] == {}
        assert [error.is_sent for error in parse(data)[1]] == [False]


@pytest.mark.parametrize(
    "message",
    [
        PING, PING | {"id": ""}, PING | {"id": -1, "params": {}}, PING | {"params": None},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "x"}},
        CALL | {"params": {"question": "whole \U0001f600 é"}},
    ],
)  # fmt: skip
def test_what_is_a_message_is_parsed(message) -> None:
    for text in (json.dumps(message), json.dumps(message, ensure_ascii=False)):
        assert parse(text.encode()) == (message, [])
        assert parse(b"\xef\xbb\xbf" + text.encode() + b"\r\n") == (message, [])
