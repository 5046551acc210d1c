"""The poller's socket: who is let in, and what one bad connection costs the others."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hand_poller import HandPoller
from place import until
from prepared_home import prepared_home

from autopoll.bridge import poller_protocol as protocol
from autopoll.bridge.connect import connect
from autopoll.bridge.poller_protocol import AskerGreeting, FollowRequest, PollerGreeting, pack
from autopoll.bridge.records import QueryState
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.poller import asker_connection, asker_listener
from autopoll.process.poller_socket import short_address
from fifo.frame import Type, header

GREETING = b"".join(pack(AskerGreeting(protocol.VERSION)))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared_home(tmp_path)


@pytest.fixture
def poller(home: Home) -> Iterator[HandPoller]:
    with HandPoller(home) as poller:
        yield poller


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield Client(home, config, bridge)


@pytest.fixture
def well(client: Client, poller: HandPoller) -> Iterator[Callable[[], None]]:
    """Check that an asker on a connection that is there all the time is served."""
    with PollerConnection(client.home) as connection:

        def check() -> None:
            asked = client.ask(["well?"], "main", connection=connection)
            assert asked.ids == [poller.claimed[-1].message_id]
            poller.answer("well")
            [result] = client.wait(asked.ids, connection, timeout=20)
            assert result.answer == "well"
            assert connection.is_open

        check()
        yield check


def plug(home: Home) -> socket.socket:
    """Connect, and say nothing."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.settimeout(20)
    with short_address(home.poller_socket) as address:
        found.connect(address)
    return found


def ends(connection: socket.socket) -> bool:
    """Read to the end of a connection, which must come in time."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_the_socket_is_private_from_its_first_moment(home: Home, poller: HandPoller) -> None:
    assert home.poller_socket.stat().st_mode & 0o777 == 0o600
    assert home.run.stat().st_mode & 0o777 == 0o700
    with plug(home) as mine:
        assert asker_listener.peer_uid(mine) == os.geteuid()


def test_another_user_is_refused_and_root_is_not(
    home: Home, poller: HandPoller, well: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(asker_listener, "peer_uid", lambda _: os.geteuid() + 1)
        with plug(home) as foreign:
            assert ends(foreign)
        patch.setattr(asker_listener, "peer_uid", lambda _: 0)
        with plug(home) as root:
            root.sendall(GREETING)
            assert root.recv(1)
    well()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try it")
def test_another_user_whom_somebody_has_let_at_the_socket_is_refused_by_the_kernels_word(
    home: Home, poller: HandPoller, well: Callable[[], None]
) -> None:
    home.run.chmod(0o711)
    home.poller_socket.chmod(0o666)
    code = (
        "import os, socket; os.setuid(65534); found = socket.socket(socket.AF_UNIX);"
        "found.settimeout(5); found.connect('poller.sock'); print(found.recv(1))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=home.run, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "b''\n" or "ConnectionResetError" in ran.stderr, ran.stderr
    well()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 9,
        GREETING + b"\0" * 64,
        GREETING + GREETING,
        b"".join(pack(FollowRequest([1], pieces=False))),
        header(Type.REQUEST, 1, 0, b"\xc1") + b"\xc1",
        header(Type.REQUEST, 1, 0, b"x" * (1 << 21)),  # larger than is taken, and never sent
    ],
    ids=["http", "zeros", "twice", "no greeting", "no record", "too large"],
)
def test_rubbish_costs_its_own_connection_only(
    home: Home, poller: HandPoller, well: Callable[[], None], rubbish: bytes
) -> None:
    with plug(home) as odd:
        odd.sendall(rubbish)
        assert ends(odd)
    until(lambda: poller.run(lambda: len(poller.questions)) == 1)
    well()


def test_half_a_frame_holds_up_nobody(
    home: Home, poller: HandPoller, well: Callable[[], None]
) -> None:
    with plug(home) as half, plug(home) as silent:
        half.sendall(GREETING[:-1])
        until(lambda: poller.run(lambda: len(poller.questions)) == 3)
        well()
        half.sendall(GREETING[-1:])
        assert half.recv(1), "it is served once it is whole"
        silent.close()
    until(lambda: poller.run(lambda: len(poller.questions)) == 1)


def test_an_asker_that_never_reads_is_cut_off_and_can_come_back(
    home: Home,
    client: Client,
    poller: HandPoller,
    well: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asker_connection, "MOST_BUFFERED", 1 << 18)
    with PollerConnection(home) as connection:
        ids = client.ask(["how?"] * 20, "main", connection=connection).ids
        poller.answer("yes " * (1 << 14))
        with plug(home) as deaf:
            deaf.sendall(GREETING + b"".join(pack(FollowRequest(ids, pieces=True))))
            until(lambda: poller.run(lambda: len(poller.questions)) == 2, what="the cut")
            assert ends(deaf)
        results = list(client.wait(ids, connection, timeout=20))
        assert {len(result.answer or "") for result in results} == {1 << 16}
    well()


def is_known(connection: PollerConnection, number: int) -> bool:
    state = connection.state(number)
    return state is not None and state.state != "sent"


def settled(connection: PollerConnection, number: int) -> bool:
    """Return whether a settled state was sent, though without its answer."""
    return connection._states[number].settled_at is not None


def test_an_asker_that_is_behind_reads_its_answers_in_the_store(
    home: Home, client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker_connection, "_BEHIND", 1 << 16)
    with PollerConnection(home) as connection:
        ids = client.ask(["how?"] * 20, "main", connection=connection).ids
        poller.answer("yes " * (1 << 14))
        assert poller.run(lambda: len(poller.questions)) == 1
        until(lambda: connection.wait(0.1) and settled(connection, ids[-1]))
        assert 0 < sum(connection.state(each) is None for each in ids) < 20
        results = list(client.wait(ids, connection, timeout=20))
        assert {len(result.answer or "") for result in results} == {1 << 16}


def test_very_many_questions_are_looked_up_some_at_a_time_and_cut_nobody_off(
    home: Home, client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asker_connection, "_BEHIND", 1 << 12)
    monkeypatch.setattr(asker_connection, "MOST_BUFFERED", 1 << 14)
    with PollerConnection(home, follow=False) as asking:
        ids = client.ask(["how?"] * 300, "main", connection=asking).ids
    looked_up: list[int] = []
    query_states = poller.bridge.messages.query_states

    def counted(wanted: list[int]) -> list[QueryState]:
        looked_up.append(len(wanted))
        return query_states(wanted)

    poller.bridge.messages.query_states = counted
    with PollerConnection(home) as connection:
        assert connection.opens_before(time.monotonic() + 20)
        connection.follow(ids)
        until(lambda: connection.wait(0.1) and all(map(connection.state, ids)))
        assert connection._socket and poller.run(lambda: len(poller.questions)) == 1
    assert sum(looked_up) == len(ids) and max(looked_up) <= 32
    until(lambda: poller.run(lambda: not poller.questions._followers))


def test_an_asker_that_is_behind_is_sent_the_rest_when_it_has_read(
    home: Home,
    client: Client,
    poller: HandPoller,
    well: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asker_connection, "_BEHIND", 1 << 16)
    monkeypatch.setattr(asker_connection, "MOST_BUFFERED", 1 << 18)
    with PollerConnection(home, follow=False) as asking:
        ids = client.ask(["how?"] * 300, "main", connection=asking).ids
        poller.answer("yes " * (1 << 14))
    reader: protocol.RecordReader[protocol.FromPoller] = protocol.RecordReader(protocol.FromPoller)
    with plug(home) as slow:
        slow.sendall(GREETING + b"".join(pack(FollowRequest(ids, pieces=False))))
        until(lambda: poller.run(lambda: any(each.is_behind for each in connections(poller))))
        well()
        seen = []
        while len(seen) < len(ids):
            data = slow.recv(1 << 16)
            assert data, "it is not cut off"
            records = [record for _, record in reader.records(data)]
            seen += [each.query for each in records if isinstance(each, protocol.QuestionNews)]
    assert [each.message_id for each in seen] == ids


def connections(poller: HandPoller) -> set[asker_connection.AskerConnection]:
    return poller.questions._connections


def test_nothing_is_kept_of_what_a_closed_connection_wanted_to_follow(
    home: Home, client: Client, poller: HandPoller
) -> None:
    with PollerConnection(home, follow=False) as asking:
        [number] = client.ask(["how?"], "main", connection=asking).ids
    poller.paused = True
    with plug(home) as asker:
        asker.sendall(GREETING + b"".join(pack(FollowRequest([number], pieces=False))))
        until(lambda: poller.run(lambda: number in poller.questions._followers))
    until(lambda: poller.run(lambda: len(poller.questions)) == 0)
    assert not (poller.questions._followers or poller.questions._to_look_up)


def test_nothing_is_kept_of_what_an_asker_followed_that_was_cut_off(
    home: Home, client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PollerConnection(home) as connection:
        client.ask(["how?"], "main", connection=connection)
        monkeypatch.setattr(asker_connection, "MOST_BUFFERED", -1)
        poller.work()
        assert not (poller.questions._followers or poller.questions._known)


def test_nothing_is_kept_of_an_asker_that_is_cut_off_with_the_word_that_its_question_is_stored(
    home: Home, client: Client, poller: HandPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PollerConnection(home) as connection:
        client.ask(["connected?"], "main", connection=connection)
        poller.answer()
        monkeypatch.setattr(asker_connection, "MOST_BUFFERED", -1)
        client.ask(["how?"], "main", connection=connection)  # which finds it stored, in the end
    until(lambda: poller.run(lambda: len(poller.questions)) == 0)
    assert not (poller.questions._followers or poller.questions._to_look_up)


def test_nobody_is_followed_that_does_not_exist(
    home: Home, client: Client, poller: HandPoller
) -> None:
    with PollerConnection(home) as connection:
        connection.follow([4711])
        [number] = client.ask(["how?"], "main", connection=connection).ids
        connection.follow([4711, number], pieces=True)
        until(lambda: connection.wait(0.1) and is_known(connection, number))
        assert connection.state(4711) is None
        assert poller.run(lambda: set(poller.questions._followers)) == {number}
    until(lambda: poller.run(lambda: not poller.questions._followers))


def test_what_a_closed_connection_wanted_stored_is_dropped(
    home: Home, client: Client, poller: HandPoller
) -> None:
    poller.paused = True
    [arrival] = [client.arrival("gone?", *client.own_session("main"))]
    with plug(home) as asker:
        asker.sendall(GREETING)
        asker.sendall(b"".join(pack(protocol.AskRequest(arrival, pieces=False), 1)))
        until(lambda: poller.run(lambda: len(poller.questions._arrived)) == 1)
    until(lambda: poller.run(lambda: len(poller.questions)) == 0)
    poller.run(poller.turn)
    assert client.bridge.messages.find() == []


def test_a_thousand_connections_are_served_and_more_are_sent_to_the_store(
    home: Home, client: Client, poller: HandPoller, well: Callable[[], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * asker_listener.MOST_CONNECTIONS + 600
    assert soft >= min(hard, 2 * asker_listener.MOST_CONNECTIONS), "the poller has room for few"
    assert hard == resource.RLIM_INFINITY or hard >= wanted, "raise ulimit -n to run this"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with ExitStack() as stack:
        crowd = []
        for _ in range(asker_listener.MOST_CONNECTIONS - 1):
            crowd.append(stack.enter_context(plug(home)))
            crowd[-1].sendall(GREETING)
        for each in crowd:
            assert each.recv(100)
        well()
        with PollerConnection(home) as late:
            [number] = client.ask(["and I?"], "main", connection=late).ids
            assert not late.is_open
            assert "1024 are connected" in poller.listener.trouble
            poller.run(poller.turn)
            poller.answer("you too")
            [result] = client.wait([number], late, timeout=20)
            assert result.answer == "you too"
    until(lambda: poller.run(lambda: len(poller.questions)) <= 2)
    well()
    poller.run(poller.listener.look)
    poller.run(poller.listener.look)
    assert poller.listener.trouble == ""


def test_the_greeting_says_the_version_and_another_one_ends_the_connection(
    home: Home, poller: HandPoller, well: Callable[[], None]
) -> None:
    reader: protocol.RecordReader[protocol.FromPoller] = protocol.RecordReader(protocol.FromPoller)
    with plug(home) as newer:
        newer.sendall(b"".join(pack(AskerGreeting(protocol.VERSION + 1))))
        [(_, greeting)] = reader.records(newer.recv(1 << 16))
        assert isinstance(greeting, PollerGreeting) and greeting.version == protocol.VERSION
        assert ends(newer)
    well()


def test_the_socket_of_a_dead_poller_is_replaced_and_another_ones_is_left(home: Home) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as dead:
        dead.bind(str(home.poller_socket))
    with HandPoller(home) as first:
        with plug(home) as asker:
            asker.sendall(GREETING)
            assert asker.recv(1)
        home.poller_socket.unlink()
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as other:
            other.bind(str(home.poller_socket))
            first.kill()
            assert home.poller_socket.is_socket(), "it was not the poller's to remove"


def test_under_a_path_of_any_length_it_is_reached(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30) / ("path" * 30)
    root.mkdir(parents=True)
    home = prepared_home(root)
    with HandPoller(home), plug(home) as asker:
        asker.sendall(GREETING)
        assert asker.recv(1)


def test_a_removed_socket_is_made_again_and_a_link_is_neither_followed_nor_removed(
    home: Home, poller: HandPoller
) -> None:
    began = time.monotonic()
    home.poller_socket.unlink()
    poller.run(poller.listener.look)
    with plug(home):
        pass
    precious = home.root / "precious"
    precious.write_text("mine")
    home.poller_socket.unlink()
    home.poller_socket.symlink_to(precious)
    poller.run(poller.listener.look)
    assert "it is a symlink" in poller.listener.trouble
    assert home.poller_socket.is_symlink() and precious.read_text() == "mine"
    home.poller_socket.unlink()
    poller.run(poller.listener.look)
    assert poller.listener.trouble == "" and time.monotonic() - began < 20
    with plug(home):
        pass


def test_followers_are_told_what_was_found_in_the_store_where_it_is_news(
    home: Home, client: Client, poller: HandPoller
) -> None:
    told: list[str] = []

    def find(state: str) -> None:
        stored = client.bridge.messages.query_state(number)
        poller.questions.seen(msgspec.structs.replace(stored, state=state))

    poller.room = 0
    with PollerConnection(home) as connection:
        [number] = client.ask(["how?"], "main", connection=connection).ids
        poller.run(
            lambda: setattr(
                poller.questions, "_send", lambda _, news: told.append(news.query.state)
            )
        )
        for state in ("ready", "queued", "leased", "leased", "ready", "done", "done"):
            poller.run(partial(find, state))
    assert told == ["leased", "ready", "done"]
