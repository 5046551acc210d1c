"""Asking through a tool: what waiting costs, and what its errors say of the question."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autopoll.bridge.records import QueryState
from autopoll.client.result import Result, just_stored
from autopoll.errors import AutopollError, BridgeBusy, NotFound
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.gateway.mcp.question_tools import Ask, GetAnswer, ask, get_answer
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


class FailingHub(Hub):
    """A hub one of whose methods fails once the question is stored."""

    def __init__(self, method: str, error: AutopollError) -> None:
        super().__init__()
        self.method = method
        self.error = error

    async def is_served(self) -> bool:
        if self.method == "is_served":
            raise self.error
        return self.method != "result"

    async def follow(self, number: int, *, pieces: bool) -> AsyncGenerator[Any, None]:
        if self.method == "follow":
            raise self.error
        yield LEASED

    async def use(self, _use: Any) -> Result:
        if self.method == "result":
            raise self.error
        return just_stored(7)


def call_of(hub: Hub, told: list[str], *, listens: bool = False) -> Call:
    async def stored(*_: Any) -> Any:
        return SimpleNamespace(id=7)

    async def report(text: str) -> None:
        told.append(text)

    access = SimpleNamespace(hub=hub, call=getattr(hub, "use", None), ask=stored)
    return Call(cast(CallerAccess, access), report, listens=listens)


@pytest.mark.parametrize("listens", [True, False])
def test_the_bridge_is_asked_for_progress_only_where_somebody_listens(listens: bool) -> None:
    hub = Hub()
    told: list[str] = []
    reply = asyncio.run(ask(call_of(hub, told, listens=listens), Ask(question="?")))
    assert isinstance(reply.value, Result)
    assert hub.looks == int(listens)
    assert len(told) == 1 + int(listens)


@pytest.mark.parametrize("method", ["is_served", "result", "follow"])
def test_what_fails_after_a_question_is_stored_names_it_and_how_to_fetch_it(method: str) -> None:
    told: list[str] = []
    hub = FailingHub(method, BridgeBusy("the bridge is locked", "Try again."))
    with pytest.raises(AutopollError) as failed:
        asyncio.run(ask(call_of(hub, told), Ask(question="?")))
    assert failed.value.what == "the bridge is locked; question 7 is kept"
    assert failed.value.mend == "Do not ask again; fetch the answer with get_answer, id 7."
    assert [text.partition(";")[0] for text in told] == ["question 7 is stored"]


def fetch(call: Call) -> ToolReply:
    return asyncio.run(get_answer(call, GetAnswer(id=7, timeout=1)))


def test_what_ends_the_wait_of_get_answer_names_the_question() -> None:
    busy = FailingHub("follow", BridgeBusy("the bridge is locked", "Try again."))
    with pytest.raises(AutopollError, match="question 7 is kept"):
        fetch(call_of(busy, []))


def test_a_question_that_its_store_no_longer_has_is_not_called_kept() -> None:
    gone = FailingHub("follow", NotFound("there is no message 7"))
    with pytest.raises(NotFound) as failed:
        fetch(call_of(gone, []))
    assert "kept" not in str(failed.value)
