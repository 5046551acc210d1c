"""Sending a message through a tool: what its errors say of the message."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.errors import AutopollError, BridgeBusy
from autopoll.gateway.authentication import Caller
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.mcp.message_tools import SendToPartner, send_to_partner
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.home.config import load


class BusyOnceStored(UseCases):
    """Use-cases over a bridge that is busy when the message that was sent is looked at."""

    def messages(self, *_: Any, **__: Any) -> Any:
        raise BridgeBusy("the bridge is locked", "Try again.")


def test_a_message_that_is_stored_is_named_by_the_error_of_looking_at_it(tmp_path: Path) -> None:
    home = prepared_home(tmp_path)
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        use = BusyOnceStored(Client(home, config, bridge), Caller())
        tokens = use.create_conversation("x", "y", None)

        async def at_once(function: Callable[[UseCases], Any]) -> Any:
            return function(use)

        access = cast(CallerAccess, SimpleNamespace(hub=None, call=at_once, ask=None))
        given = SendToPartner(
            message="hello", conversation_id=tokens.conversation, session_id="a", token=tokens.a
        )
        with pytest.raises(AutopollError) as failed:
            asyncio.run(send_to_partner(Call(access, cast(Any, None), listens=False), given))
        (stored,) = bridge.messages.find(conversation=tokens.conversation, after=0, limit=2)
    assert failed.value.what == f"the bridge is locked; message {stored.id} is stored"
    assert failed.value.mend == "Do not send it again."
