"""Asking over the poller's socket, whatever happens to the poller or to the connection."""

import errno
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import apsw
import pytest
from hand_poller import HandPoller
from place import until
from prepared_home import ECHO, prepared_home

from autopoll.bridge import poller_protocol as protocol
from autopoll.bridge.connect import connect, connect_when_needed
from autopoll.bridge.records import Arrival, SentMessage, Stored
from autopoll.client import poller_link
from autopoll.client.answer_pieces import AnswerPiece
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import (
    AccessDenied,
    BridgeBusy,
    BridgeUnavailable,
    NotFound,
    RateLimited,
    TimedOut,
)
from autopoll.home.config import load

LIMITS = "[access]\nrate_per_second = 1\nrate_burst = 5\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    home = prepared_home(tmp_path, ECHO + LIMITS)
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield Client(home, config, bridge)


@pytest.fixture
def connection(client: Client) -> Iterator[PollerConnection]:
    with PollerConnection(client.home, pieces=True) as connection:
        yield connection


@pytest.fixture
def poller(client: Client) -> Iterator[HandPoller]:
    with HandPoller(client.home) as poller:
        yield poller


def ask(client: Client, connection: PollerConnection, question: str = "how?") -> int:
    [number] = client.ask([question], "main", connection=connection).ids
    return number


def questions(client: Client) -> list[str]:
    """Return what stands in the store."""
    return [
        str(client.result(each.id).status) for each in client.bridge.messages.find(kind="query")
    ]


def test_a_question_is_stored_by_the_poller_and_its_answer_read_nowhere(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = client.ask(["how?"], "main", connection=connection)
    assert asked.listening
    assert [each.message_id for each in poller.claimed] == asked.ids
    poller.answer("so")
    monkeypatch.setattr(type(client.bridge.messages), "query_state", None)
    [result] = client.wait(asked.ids, connection, timeout=10)
    assert (result.status, result.answer, result.shard, result.attempts) == (
        "answered", "so", "main", 1,
    )  # fmt: skip


def test_what_has_come_already_is_not_asked_for_again(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = ask(client, connection)
    poller.answer("yes")
    while not ((state := connection.state(number)) and state.answer):
        assert connection.wait(20)
    monkeypatch.setattr(connection, "_follow", pytest.fail)
    [result] = client.wait([number], connection, timeout=20)
    assert result.answer == "yes"


def test_nothing_is_kept_of_a_question_that_nobody_waits_for_any_more(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)
    with pytest.raises(TimedOut):
        list(client.wait([number], connection, timeout=0.01))
    poller.write("a piece")
    poller.answer("yes")
    assert client.ask(["and?"], "main", connection=connection).ids  # after the news of the first
    assert list(connection._states) == [number + 2]
    assert list(connection._texts._texts) == [number + 2]


def test_the_result_is_the_one_that_the_store_holds(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)
    poller.answer('é \U0001f600 "x"\n\nSources: none')
    [result] = client.wait([number], connection, timeout=10)
    assert result == client.result(number)


def test_an_answer_too_long_for_the_socket_is_read_in_the_store(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)
    long = "x" * (protocol.LARGEST_ANSWER + 1)
    poller.answer(long)
    [result] = client.wait([number], connection, timeout=10)
    assert result.answer == long


def test_each_question_is_refused_on_its_own_merits_with_its_own_error(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    stored, listening = client.submit(["one"] * 7, "main", connection=connection)
    assert [type(each).__name__ for each in stored] == ["SentMessage"] * 5 + ["RateLimited"] * 2
    assert listening
    [refused] = [each for each in stored if isinstance(each, RateLimited)][:1]
    assert refused.wait_ms > 0 and "sends too fast" in refused.what


@pytest.mark.parametrize("word", ["Down", "SomethingElse"])
def test_a_refusal_of_any_kind_becomes_an_error(word: str) -> None:
    error = protocol.error_of(protocol.QuestionRefused(word, "no", "mend it"))
    assert (error.what, error.mend) == ("no", "mend it")
    known = protocol.error_of(protocol.refusal(NotFound("gone", "list them")))
    assert isinstance(known, NotFound) and known.mend == "list them"


def test_a_question_too_large_for_the_socket_is_refused_by_the_store_alone(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    first = ask(client, connection)
    large = "x" * (9 * 1024 * 1024)
    stored, _ = client.submit([large, "small"], "main", connection=connection)
    assert "too large" in str(stored[0])
    assert [each.message_id for each in poller.claimed] == [first, first + 1]
    assert connection.is_open


def test_without_a_poller_a_question_is_stored_by_its_asker(
    client: Client, connection: PollerConnection
) -> None:
    number = ask(client, connection)
    assert questions(client) == ["pending"]
    with HandPoller(client.home) as poller:
        poller.run(poller.turn)
        poller.answer()
        [result] = client.wait([number], connection, timeout=10)
    assert result.answer == "yes"


def test_a_wait_is_taken_up_again_with_the_next_poller(
    client: Client, connection: PollerConnection
) -> None:
    with HandPoller(client.home):
        number = ask(client, connection)
    with HandPoller(client.home) as poller:
        poller.run(poller.turn)
        waiting = threading.Timer(0.3, poller.answer)
        waiting.start()
        [result] = client.wait([number], connection, timeout=10)
        waiting.join()
    assert result.answer == "yes"


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_question_is_asked_once_when_its_poller_dies_before_it_says_so(
    client: Client, connection: PollerConnection, committed: bool, replaced: bool
) -> None:
    """Dead between receipt and commit, or between commit and word; alone, or with a successor."""
    first = HandPoller(client.home)
    with first:
        first.paused = True
        asking = threading.Thread(target=ask, args=(client, connection))
        # The bridge is one thread's at a time: it is the asker's while it asks.
        asking.start()
        until(lambda: first.run(lambda: len(first.questions._arrived)), what="the question")
        if committed:
            first.questions.committed = lambda stored: None  # type: ignore[method-assign]
            first.run(first.turn)
        if replaced:
            socket_of_first = first.home.poller_socket
            first.run(first.listener.close)
            assert not socket_of_first.exists()
            first.run(first.bridge.deliveries.close)
            with HandPoller(client.home) as second:
                first.kill()
                asking.join(10)
                assert not asking.is_alive()
                second.run(second.turn)
        else:
            first.kill()
            asking.join(10)
            assert not asking.is_alive()
    assert questions(client) == ["pending"]


def test_a_poller_that_wakes_after_its_asker_has_gone_to_the_store_asks_nothing_twice(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(client, connection)  # connected
    awake = threading.Event()
    poller.stall(awake)
    began = time.monotonic()
    number = ask(client, connection, "hung?")
    assert time.monotonic() - began >= poller_link.SURE_S
    assert len(questions(client)) == 2
    awake.set()
    until(lambda: number in [each.message_id for each in poller.claimed], what="its delivery")
    assert len(questions(client)) == 2


def test_an_asker_whom_the_store_refuses_after_the_poller_has_its_question_learns_that(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(client, connection)  # connected
    awake = threading.Event()
    poller.stall(awake)
    monkeypatch.setattr("autopoll.bridge.sqlite.busy_handler.BUSY_S", 0.1)
    with closing(apsw.Connection(str(client.home.var / "bridge.db"))) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(BridgeBusy, match="may store it yet") as refused:
            ask(client, connection, "stored after all?")
    assert "autopoll messages" in refused.value.mend
    awake.set()
    until(lambda: len(questions(client)) == 2, what="the question, stored by the poller")


def test_a_question_of_which_the_poller_cannot_know_whether_it_is_stored_is_asked_again_once(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    ask(client, connection)  # connected
    commit = poller.bridge.deliveries.commit_turn

    def cut(*args: Any) -> NoReturn:
        commit(*args)
        poller.bridge.deliveries.commit_turn = commit
        raise BridgeUnavailable("the reply was cut")

    poller.bridge.deliveries.commit_turn = cut
    number = ask(client, connection, "once?")
    assert poller.bridge.deliveries.commit_turn is commit, "the reply was cut"
    assert [each.id for each in client.bridge.messages.find(kind="query")][1:] == [number]


def test_a_poller_that_drains_leaves_the_storing_to_its_askers(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    first = ask(client, connection)
    poller.paused = True  # else it may claim what its bell is rung for
    poller.run(poller.questions.drain)
    began = time.monotonic()
    second = ask(client, connection, "and now?")
    assert time.monotonic() - began < 1
    assert [each.message_id for each in poller.claimed] == [first]
    assert questions(client) == ["pending", "pending"]
    poller.answer("before the end")  # what is in flight is still said
    [result] = client.wait([first], connection, timeout=10)
    assert (result.answer, second > first) == ("before the end", True)


def test_askers_ask_again_how_questions_stand_after_the_store_was_away(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)
    poller.run(lambda: poller.questions.restart(0))
    assert len(poller.questions) == 0
    poller.answer()
    [result] = client.wait([number], connection, timeout=10)
    assert result.answer == "yes"


def test_a_poller_of_another_version_is_left_alone_and_the_store_is_used(
    client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_link, "VERSION", protocol.VERSION + 1)
    with PollerConnection(client.home) as connection:
        number = ask(client, connection)
        assert f"speaks version {protocol.VERSION} of its protocol" in connection.trouble
        assert not connection.is_open
        poller.run(poller.turn)
        poller.answer()
        [result] = client.wait([number], connection, timeout=10)
    assert result.answer == "yes"


def test_a_poller_of_another_version_is_tried_again_later(
    client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_link, "VERSION", protocol.VERSION + 1)
    with PollerConnection(client.home) as connection:
        ask(client, connection)
        monkeypatch.setattr(poller_link, "VERSION", protocol.VERSION)
        ask(client, connection)
        assert connection.trouble and not connection.is_open, "not at once"
        connection._retry_at -= poller_link.OTHER_VERSION_S
        ask(client, connection)
        assert not connection.trouble and connection.is_open


def test_what_listens_and_says_nothing_costs_an_asker_some_seconds_and_no_question(
    client: Client, connection: PollerConnection
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(client.home.poller_socket))
        mute.listen()
        ask(client, connection)
    assert questions(client) == ["pending"]


def test_news_come_as_they_happen_with_the_error_of_the_attempt_before(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)
    seen = []

    def next_state() -> tuple[str, int, str | None]:
        assert connection.wait(10)
        state = connection.state(number)
        assert state
        seen.append(state)
        return state.state, state.attempts, state.last_error

    poller.work()
    assert next_state() == ("leased", 1, None)
    poller.fail("it broke")
    assert next_state() == ("ready", 1, "it broke")
    poller.run(poller.turn)
    poller.work()
    assert next_state() == ("leased", 2, "it broke")
    poller.answer()
    assert next_state()[0] == "done"


def test_pieces_come_once_and_another_attempt_begins_anew(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    number = ask(client, connection)

    def taken() -> tuple[str, bool] | None:
        assert connection.wait(10)
        piece = connection.take_pieces(number)
        return (piece.text, piece.anew) if piece else None

    poller.write("It is ")
    assert taken() == ("It is ", False)
    assert connection.take_pieces(number) is None
    state = connection.state(number)
    assert state and state.state == "leased"
    poller.write("so.")
    assert taken() == ("so.", False)
    poller.fail("no")
    poller.run(poller.turn)
    assert taken() is None
    poller.write("No, ")
    assert taken() == ("No, ", True)
    with PollerConnection(client.home, pieces=True) as late:
        late.follow([number])
        until(lambda: late.wait(0.1) and (piece := late.take_pieces(number)) and pieces(piece))


def test_while_there_is_a_poller_its_askers_never_open_the_store(
    client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autopoll.bridge.connect.open_bridge", None)
    asker = Client(client.home, client.config, connect_when_needed(client.home, client.config))
    with closing(asker.bridge), PollerConnection(client.home) as connection:
        asked = asker.ask(["how?"], "main", connection=connection)
        waiting = threading.Timer(1.5, poller.answer)  # longer than the store is left alone for
        waiting.start()
        [result] = asker.wait(asked.ids, connection, timeout=10)
        waiting.join()
        assert result.answer == "yes"
        asked = asker.ask(["and?"], "main", connection=connection)
        with PollerConnection(client.home) as another:
            [first, second] = asker.results([result.id, *asked.ids], another)
    assert first == result
    assert (second.status, second.shard) == ("pending", "main")


def test_how_questions_stand_is_read_in_the_store_where_the_poller_does_not_say_so(
    client: Client, connection: PollerConnection
) -> None:
    number = ask(client, connection)
    assert [each.id for each in client.results([number], connection)] == [number]
    with HandPoller(client.home):
        began = time.monotonic()
        with pytest.raises(NotFound, match="no message 77"):
            client.results([number, 77], connection)
        assert time.monotonic() - began < poller_link.PATIENCE_S


def test_what_is_asked_without_waiting_is_not_followed(client: Client, poller: HandPoller) -> None:
    with PollerConnection(client.home, follow=False) as connection:
        number = ask(client, connection)
        assert [each.message_id for each in poller.claimed] == [number]
        assert poller.run(lambda: poller.questions._followers) == {}
        assert connection.state(number) is None


def test_a_revoked_token_asks_nothing_over_the_socket(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    conversation, session = client.own_session("main")
    client.bridge.conversations.revoke_token(conversation, session)
    with pytest.raises(AccessDenied, match="does not open"):
        ask(client, connection)
    assert questions(client) == []
    assert poller.claimed == []


def test_an_expired_token_is_replaced_and_its_questions_are_asked_once(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversation, session = client.own_session("main")
    before = client.sessions.token(conversation, session)
    true = time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: true() + 31 * 86_400 * 10**9)
    ask(client, connection, "late?")
    assert client.sessions.token(conversation, session) != before
    assert questions(client) == ["pending"]
    ask(client, connection, "and now?")
    poller.claims(2)
    assert len(poller.claimed) == len(questions(client)) == 2


@pytest.mark.parametrize("which", ["b", "wrong"])
def test_a_token_proves_only_its_own_session(
    client: Client, connection: PollerConnection, poller: HandPoller, which: str
) -> None:
    conversation, session = client.own_session("main")
    arrivals = [client.arrival(each, conversation, session) for each in ("one?", "two?")]
    token = client.sessions.token(conversation, "b") if which == "b" else "0" * 64
    for sent, left in zip(arrivals, connection.store(arrivals, token), strict=True):
        assert isinstance(left, Arrival) and left.query_id == sent.query_id
    assert questions(client) == []
    good = client.sessions.token(conversation, session)
    [stored] = connection.store(arrivals[:1], good)
    assert isinstance(stored, SentMessage)


def test_a_refused_token_leaves_no_doubt_that_the_poller_has_stored_nothing(
    client: Client, connection: PollerConnection, poller: HandPoller
) -> None:
    arrivals = [client.arrival("one?", *client.own_session("main"))]
    [left] = connection.store(arrivals, "0" * 64)
    assert isinstance(left, Arrival) and not left.repeated
    proven = poller.questions._proven

    def cut(arrived: list[Any], *_: object) -> list[Any]:
        poller.questions._proven = proven  # type: ignore[method-assign]
        arrived[0][0].close()
        return []

    poller.questions._proven = cut  # type: ignore[method-assign]
    [left] = connection.store(arrivals, "0" * 64)
    assert isinstance(left, Arrival) and left.repeated, "an earlier try may have been stored"


def test_a_late_question_is_looked_for_beyond_the_last_that_was_stored(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = []

    def pack(record: protocol.FromAsker, *number: int) -> tuple[bytes, bytes]:
        if isinstance(record, protocol.AskRequest):
            sent.append(record.arrival.after)
        return protocol.pack(record, *number)

    monkeypatch.setattr(poller_link, "pack", pack)
    numbers = [ask(client, connection) for _ in range(3)]
    assert sent == [0, *numbers[:2]]


def pieces(piece: AnswerPiece) -> bool:
    return (piece.text, piece.attempt, piece.anew) == ("No, ", 2, False)


def test_any_number_of_questions_is_followed_over_one_connection(
    client: Client, poller: HandPoller
) -> None:
    least = 1024 + (64 << 10)  # bytes of a record that any poller takes
    poller.run(lambda: setattr(poller.questions, "_max_payload", least))
    with PollerConnection(client.home) as connection:
        connection.follow(range(1 << 40, (1 << 40) + 20_000))
        assert connection.wait(20)
        opened = connection._socket
        assert opened
        while connection._followed:  # until it is said of each that there is none
            assert connection.wait(20)
        assert connection._socket is opened, "it was cut off"


def test_without_a_descriptor_for_the_socket_a_question_is_stored_by_its_asker(
    client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    with PollerConnection(client.home) as connection:
        kinds = SimpleNamespace(socket=none_left, AF_UNIX=0, SOCK_STREAM=0)
        monkeypatch.setattr("autopoll.process.poller_socket.socket", kinds)
        assert ask(client, connection)
        assert not connection.is_open
    monkeypatch.undo()
    assert questions(client) == ["pending"]


def test_what_the_poller_has_stored_is_known_also_where_the_rest_cannot_be(
    client: Client,
    connection: PollerConnection,
    poller: HandPoller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first_only(
        arrivals: Sequence[Arrival], token: str | None = None, *, shard: str | None = None
    ) -> list[Stored | Arrival]:
        return [*store(arrivals[:1], token, shard=shard), *arrivals[1:]]

    store = connection.store
    monkeypatch.setattr(connection, "store", first_only)
    monkeypatch.setattr("autopoll.bridge.sqlite.busy_handler.BUSY_S", 0.1)
    with closing(apsw.Connection(str(client.home.var / "bridge.db"))) as foreign:
        ask(client, connection)
        real = client.bridge.messages.store

        def locked(arrivals: Sequence[Arrival]) -> list[Stored]:
            foreign.execute("BEGIN IMMEDIATE")
            try:
                return real(arrivals)
            finally:
                foreign.execute("ROLLBACK")

        monkeypatch.setattr(client.bridge.messages, "store", locked)
        stored, _ = client.submit(["1", "2", "3"], "main", connection=connection)
    first, *rest = stored
    assert isinstance(first, SentMessage)
    assert [type(each) for each in rest] == [BridgeBusy, BridgeBusy]
    assert len(questions(client)) == 2
