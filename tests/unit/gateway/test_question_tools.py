"""What asking through a tool costs while its answer is waited for."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autopoll.bridge.records import QueryState
from autopoll.client.result import Result, just_stored
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.mcp.question_tools import Ask, ask
from autopoll.gateway.usecases import CallerAccess

LEASED = QueryState(
    message_id=7, conversation="c", session="b", state="leased", shard="main", attempts=1,
    last_error=None, answer=None, enrolled_at=None, settled_at=None,
)  # fmt: skip


class Hub:
    """Whose poller says that a question is being answered, and then how it was."""

    config = SimpleNamespace(gateway=SimpleNamespace(max_wait=60.0))

    def __init__(self) -> None:
        self.looks = 0

    async def is_served(self) -> bool:
        return True

    async def call(self, _use: Any) -> None:
        self.looks += 1

    async def follow(self, number: int, *, pieces: bool) -> AsyncGenerator[Any, None]:
        yield LEASED
        yield just_stored(number)


@pytest.mark.parametrize("listens", [True, False])
def test_the_bridge_is_asked_for_progress_only_where_somebody_listens(listens: bool) -> None:
    hub = Hub()
    told: list[str] = []

    async def stored(*_: Any) -> Any:
        return SimpleNamespace(id=7)

    async def report(text: str) -> None:
        told.append(text)

    access = SimpleNamespace(hub=hub, call=None, ask=stored)
    call = Call(cast(CallerAccess, access), report, listens=listens)
    reply = asyncio.run(ask(call, Ask(question="?")))
    assert isinstance(reply.value, Result)
    assert hub.looks == int(listens)
    assert len(told) == 1 + int(listens)
