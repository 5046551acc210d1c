"""What a session of one conversation may do, and what only the operator may."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.records import Arrival, SentMessage
from autopoll.client.client import Client
from autopoll.errors import AccessDenied, NotFound
from autopoll.gateway import operator_usecases, queue_usecases
from autopoll.gateway.authentication import Caller, Forbidden
from autopoll.gateway.hub import Hub
from autopoll.gateway.usecases import CallerAccess, Question, UseCases
from autopoll.home.config import load

OPERATOR = Caller()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    home = prepared_home(
        tmp_path, '[shards.main]\nbackend = "echo"\n[shards.other]\nbackend = "echo"\n'
    )
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield Client(home, config, bridge)


@pytest.fixture
def of(client: Client) -> Callable[[Caller], UseCases]:
    return lambda caller: UseCases(client, caller)


def ask(client: Client, arrival: Arrival) -> int:
    stored = client.store_without_poller(arrival)
    assert isinstance(stored, SentMessage)
    return stored.id


def session(client: Client, shard: str | None = None) -> Caller:
    """Return session a of a new conversation."""
    return Caller(conversation=client.converse("x", "y", shard).conversation, session="a")


@pytest.mark.parametrize(
    "use",
    [
        UseCases.conversations,
        partial(UseCases.create_conversation, role_a="x", role_b="y", shard=None),
    ],
)
def test_what_is_the_operators_is_refused_to_a_session(client, of, use) -> None:
    with pytest.raises(Forbidden, match="operator's token"):
        use(of(session(client)))


@pytest.mark.parametrize(
    "function",
    [
        each
        for module in (operator_usecases, queue_usecases)
        for name, each in inspect.getmembers(module, inspect.isfunction)
        if each.__module__ == module.__name__
        if not name.startswith("_") and each is not queue_usecases.cancel  # of its own questions
    ],
)
def test_what_looks_after_a_home_is_refused_to_a_session_and_audited(client, function) -> None:
    denied: list[tuple[str | None, str]] = []

    class InlineHub(Hub):
        async def call(self, use: Callable[[Client], Any]) -> Any:
            return use(client)

    caller = session(client)
    access = CallerAccess(InlineHub(client.home, client.config), lambda _client: caller)
    audit = client.bridge.conversations
    audit.audit_denial = lambda *what: denied.append(what)  # type: ignore[method-assign]
    _, *more = inspect.signature(function).parameters
    use = partial(function, **dict.fromkeys(more, 1))
    with pytest.raises(Forbidden):
        asyncio.run(use(access) if inspect.iscoroutinefunction(function) else access.call(use))
    assert denied == [(caller.conversation, "needs the operator's token")]


def test_a_session_sees_nothing_of_another_conversation(client, of) -> None:
    mine, other = session(client, "main"), session(client, "other")
    number = ask(client, of(other).arrival(Question(question="secret?")))
    use = of(mine)
    for look in (
        lambda: use.conversation(other.conversation),
        lambda: use.messages(other.conversation, limit=10),
        lambda: use.presence(other.conversation, "a"),
        lambda: use.speaker(other.conversation),
        lambda: use.send(other.conversation, text="x", metadata=None),
        lambda: use.inbox(other.conversation, limit=10),
        lambda: use.set_status(other.conversation, status="x"),
        lambda: use.result(number),
        lambda: use.arrival(Question(question="x", conversation=other.conversation)),
    ):
        with pytest.raises(NotFound, match="there is no"):
            look()
    assert use.messages(None, limit=10) == []
    assert list(use.shards()) == ["main"]
    assert of(other).result(number).id == of(OPERATOR).result(number).id == number
    assert [each.id for each in of(OPERATOR).messages(None, limit=10)] == [number]
    assert list(of(OPERATOR).shards()) == ["main", "other"]


def test_a_session_speaks_as_itself_and_as_nobody_else(client, of) -> None:
    tokens = client.converse("x", "y", None)
    use = of(Caller(conversation=tokens.conversation, session="a"))
    assert use.speaker(tokens.conversation, "a", tokens.a) == (tokens.conversation, "a")
    for given in (("b",), (None, tokens.b), ("b", tokens.b)):
        for speak in (
            use.speaker,
            partial(use.send, text="x", metadata=None),
            partial(use.inbox, limit=10),
            partial(use.set_status, status="x"),
        ):
            with pytest.raises(AccessDenied, match="you are session a"):
                speak(tokens.conversation, *given)


def test_what_a_session_says_reaches_its_partner(client, of) -> None:
    tokens = client.converse("x", "y", None)
    here = tokens.conversation
    mine, partner = (of(Caller(conversation=here, session=each)) for each in ("a", "b"))
    number = mine.send(here, text="hello", metadata=None)
    mine.set_status(here, status="waiting")
    assert [each.id for each in partner.inbox(here, limit=10)] == [number]
    assert partner.inbox(here, limit=10) == []
    assert partner.presence(here, "a").status == "waiting"
    assert partner.presence(here, "b").status == "unknown"


def test_the_operator_speaks_by_a_token_or_as_the_home_does(client, of) -> None:
    tokens = client.converse("x", "y", None)
    own, _ = client.own_session("main")
    use = of(OPERATOR)
    assert use.speaker(own) == (own, "a")
    assert use.speaker(tokens.conversation, None, tokens.b) == (tokens.conversation, "b")
    with pytest.raises(NotFound, match="keeps no token"):
        use.speaker(tokens.conversation)
