"""Sending a message through a tool: what its errors say of the message."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Message
from autopoll.client.client import Client
from autopoll.errors import AutopollError, BridgeBusy
from autopoll.gateway.authentication import Caller
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.gateway.mcp.message_tools import SendToPartner, StoredMessage, send_to_partner
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.home.config import load
from autopoll.home.home import Home


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    home = prepared_home(tmp_path)
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


def send(home: Home, bridge: Bridge) -> tuple[str, Callable[[], ToolReply]]:
    """Return a new conversation, and how to send "hello" there."""
    use = UseCases(Client(home, load(home, {}), bridge), Caller())
    tokens = use.create_conversation("x", "y", None)

    async def at_once(function: Callable[[UseCases], Any]) -> Any:
        return function(use)

    access = cast(CallerAccess, SimpleNamespace(hub=None, call=at_once, ask=None))
    given = SendToPartner(
        message="hello", conversation_id=tokens.conversation, session_id="a", token=tokens.a
    )
    call = Call(access, cast(Any, None), listens=False)
    return tokens.conversation, lambda: asyncio.run(send_to_partner(call, given))


def test_a_message_that_is_stored_is_named_by_the_error_of_looking_at_it(
    tmp_path: Path, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: int) -> Message:
        raise BridgeBusy("the bridge is locked", "Try again.")

    conversation, sending = send(Home(tmp_path), bridge)
    monkeypatch.setattr(bridge.messages, "message", busy)
    with pytest.raises(AutopollError) as failed:
        sending()
    (stored,) = bridge.messages.find(conversation=conversation, after=0, limit=2)
    assert failed.value.what == f"the bridge is locked; message {stored.id} is stored"
    assert failed.value.mend == "Do not send it again."


def test_a_message_is_looked_at_though_readers_do_not_reach_its_number_yet(
    tmp_path: Path, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, sending = send(Home(tmp_path), bridge)
    # As on a server while another transaction is open.
    monkeypatch.setattr(bridge.messages, "find", lambda **_: [])
    reply = cast(StoredMessage, sending().value)
    assert (reply.conversation_id, reply.redacted) == (conversation, False)
    assert bridge.messages.message(reply.id).text == "hello"
