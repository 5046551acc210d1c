"""Asking and reading without any process: what is stored, what is refused, what is said."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answered, QueryState
from autopoll.client.availability import Obstacle
from autopoll.client.client import Client
from autopoll.client.home_sessions import read_token
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import AccessDenied, Down, NotFound, RateLimited, TimedOut, UsageError
from autopoll.home import credentials
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import Answer
from fifo.bell import Bell

CONFIG = '[shards.main]\nbackend = "echo"\n[access]\nrate_per_second = 1\nrate_burst = 5\n'
TRUE_NS = time.time_ns


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared_home(tmp_path, CONFIG)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


@pytest.fixture
def client(home: Home, bridge: Bridge) -> Client:
    return Client(home, load(home, {}), bridge)


def answer(bridge: Bridge, text: str, *, error: bool = False) -> None:
    """Answer everything that waits, as the poller would."""
    bridge.deliveries.settle(
        [
            Answered(
                message_id=each.message_id, fence=each.fence, answer=Answer(text=text, error=error)
            )
            for each in bridge.deliveries.claim("owner", {"main": 100}, 60_000)
        ],
        "owner",
    )


def test_a_question_is_stored_as_json_in_a_lane_of_its_own(
    client: Client, bridge: Bridge, home: Home
) -> None:
    with PollerConnection(home) as connection:
        asked = client.ask(["how?"], "main", context_file="a.md", connection=connection)
        [message] = bridge.messages.find()
        assert asked.ids == [message.id]
        assert not asked.listening
        text = json.loads(message.text)
        assert (text["type"], text["question"], text["context_file"]) == ("query", "how?", "a.md")
        assert json.loads(message.metadata or "") == {"lane": "own"}


@pytest.mark.parametrize("question", ["", "  \n", "a\0b", "\ud800"])
def test_what_is_no_question_is_refused_and_nothing_is_stored(
    client: Client, bridge: Bridge, question: str
) -> None:
    with pytest.raises(UsageError):
        client.ask(["fine", question], "main")
    assert bridge.messages.find() == []


def test_an_unknown_shard_is_refused_naming_the_known(client: Client) -> None:
    with pytest.raises(NotFound, match="no shard 'x'") as caught:
        client.ask(["how?"], "x")
    assert "main" in caught.value.mend


def test_the_session_with_an_unknown_shard_is_refused_wherever_it_is_asked_for(
    client: Client,
) -> None:
    for refused in (
        lambda: client.own_session("x"),
        lambda: client.sessions.with_shard("x", client.config),
        lambda: client.converse("me", "it", "x"),
    ):
        with pytest.raises(NotFound, match="no shard 'x'"):
            refused()


def test_a_budget_that_is_used_up_is_refused_and_nothing_is_stored(
    client: Client, bridge: Bridge
) -> None:
    client.ask(["one"] * 5, "main")
    with pytest.raises(RateLimited):
        client.ask(["two"], "main")
    assert len(bridge.messages.find()) == 5


def test_a_revoked_token_is_refused_without_being_shown(client: Client, bridge: Bridge) -> None:
    kept = credentials.read(client.home)
    bridge.conversations.revoke_token(kept.shards["main"], "a")
    with pytest.raises(AccessDenied) as caught:
        client.ask(["how?"], "main")
    assert kept.token(kept.shards["main"], "a") not in str(caught.value)
    assert bridge.messages.find() == []


def test_an_own_token_that_nobody_used_for_a_month_is_replaced_by_the_next_who_asks(
    client: Client, bridge: Bridge, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = credentials.read(home).shards["main"]
    before = credentials.read(home).tokens[conversation]
    first = client.ask(["one"], "main").ids
    forward(monkeypatch, 31 * 86_400)
    answer(bridge, "yes")
    assert client.ask(["two"], "main").ids[0] > first[0]
    assert client.sessions.authenticate(conversation, "b", None) == "b"
    after = credentials.read(home).tokens[conversation]
    assert not set(before.values()) & set(after.values())
    for old in before.values():
        with pytest.raises(AccessDenied):
            client.sessions.authenticate(conversation, None, old)
    assert client.result(first[0]).answer == "yes"
    forward(monkeypatch, 32 * 86_400)
    client.ask(["three"], "main")
    assert credentials.read(home).tokens[conversation] == after, "it is in use, and stays"


def test_an_expired_token_that_was_revoked_stays_revoked(
    client: Client, bridge: Bridge, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = credentials.read(home).shards["main"]
    bridge.conversations.revoke_token(conversation, "a")
    forward(monkeypatch, 31 * 86_400)
    for _ in range(2):
        with pytest.raises(AccessDenied):
            client.ask(["why?"], "main")
    assert bridge.conversations.get(conversation).revoked == ["a"]


def test_of_many_who_find_a_token_expired_none_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward(monkeypatch, 31 * 86_400)
    refused: list[Exception] = []

    def ask() -> None:
        with closing(connect(home, load(home, {}))) as bridge:
            try:
                Client(home, load(home, {}), bridge).own_session("main")
            except AccessDenied as error:
                refused.append(error)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert not refused


def forward(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Have the clock on the wall be ahead of the true one."""
    monkeypatch.setattr("time.time_ns", lambda: TRUE_NS() + seconds * 10**9)


def test_outcomes_come_in_the_order_they_were_asked_for(
    client: Client, bridge: Bridge, home: Home
) -> None:
    with PollerConnection(home) as connection:
        asked = client.ask(["one", "two"], "main", connection=connection)
        answer(bridge, "yes")
        results = list(client.wait(list(reversed(asked.ids)), connection))
    assert [result.id for result in results] == list(reversed(asked.ids))
    assert {(result.status, result.answer, result.shard) for result in results} == {
        ("answered", "yes", "main")
    }
    assert all(result.latency_ms is not None for result in results)


def test_an_error_answer_is_an_error_with_its_reason(
    client: Client, bridge: Bridge, home: Home
) -> None:
    [message_id] = client.ask(["one"], "main").ids
    assert client.result(message_id).status == "pending"
    answer(bridge, "cannot", error=True)
    result = client.result(message_id)
    assert (result.status, result.answer) == ("error", "cannot")


def test_without_a_poller_an_asker_looks_at_the_store(
    client: Client, bridge: Bridge, home: Home
) -> None:
    with closing(Bell(home.bell)), PollerConnection(home) as connection:
        asked = client.ask(["one"], "main", connection=connection)
        seen: list[str] = []

        def settle() -> None:
            with closing(connect(home, client.config)) as mine:
                answer(mine, "found")

        thread = threading.Thread(target=settle)

        def on_news(state: QueryState, obstacle: Obstacle | None) -> None:
            seen.append(state.state)
            if len(seen) == 1:
                thread.start()

        [result] = client.wait(asked.ids, connection, on_news=on_news)
        thread.join()
    assert result.answer == "found"
    assert seen[0] == "sent"


def test_a_wait_that_is_too_long_says_how_to_fetch_the_answer(client: Client, home: Home) -> None:
    with closing(Bell(home.bell)), PollerConnection(home) as connection:
        asked = client.ask(["one"], "main", connection=connection)
        assert asked.listening
        with pytest.raises(TimedOut) as caught:
            list(client.wait(asked.ids, connection, timeout=0.05))
    assert f"autopoll answer {asked.ids[0]}" in caught.value.mend


def test_a_wait_ends_when_everything_went_down(
    client: Client, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autopoll.client.outcome_wait.NET_S", 0.02)
    with PollerConnection(home) as connection:
        asked = client.ask(["one"], "main", connection=connection)
        with pytest.raises(Down, match="is kept and will be answered"):
            list(client.wait(asked.ids, connection, timeout=30))


def test_a_token_is_taken_from_the_caller_then_the_environment_then_the_home(
    client: Client, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bridge.conversations.create("x", "y")
    with pytest.raises(NotFound, match="keeps no token"):
        client.sessions.authenticate(made.conversation, None, None)
    monkeypatch.setenv("AUTOPOLL_TOKEN", made.b)
    assert client.sessions.authenticate(made.conversation, None, None) == "b"
    assert client.sessions.authenticate(made.conversation, None, made.a) == "a"
    with pytest.raises(AccessDenied, match="proves session b"):
        client.sessions.authenticate(made.conversation, "a", None)
    monkeypatch.delenv("AUTOPOLL_TOKEN")
    own = credentials.read(client.home).shards["main"]
    assert client.sessions.authenticate(own, "b", None) == "b"


@pytest.mark.parametrize("token", ["x", "ä" * 64, "sha256$" + "0" * 64, "0" * 64, "\ud800", "a\0"])
def test_a_wrong_token_is_refused_and_never_shown(
    client: Client, bridge: Bridge, token: str
) -> None:
    made = bridge.conversations.create("x", "y")
    with pytest.raises(AccessDenied) as caught:
        client.sessions.authenticate(made.conversation, None, token)
    assert token == "x" or token not in str(caught.value)


def test_questions_to_a_shard_cannot_be_taken_away_as_an_inbox(client: Client) -> None:
    own = credentials.read(client.home).shards["main"]
    client.ask(["one"], "main")
    with pytest.raises(UsageError, match="answered by shard main"):
        client.inbox(own, "b", 10)
    assert client.inbox(own, "a", 10) == []


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        read_token(path)


def test_a_token_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert read_token(tmp_path / "token") == "abc"


def test_a_token_in_a_file_with_a_byte_order_mark_is_read_without_it(tmp_path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbfabc\r\n")  # as editors of Windows write it
    assert read_token(tmp_path / "token") == "abc"
