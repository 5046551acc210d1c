"""A poller whose bridge is on a server that says nothing, or is away: then it is held."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from bridge_calls import talk
from place import ECHO, Place, until
from postgres_server import PostgresServer

from autopoll.bridge.protocols import Bridge
from autopoll.errors import Exit


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, server: PostgresServer) -> Iterator[Place]:
    place = Place(tmp_path / "home", None)
    place.home.config.write_text(f"{ECHO}[bridge]\nurl = {json.dumps(server.url())}\n")
    place.home.config.chmod(0o600)
    place.run("init", str(place.root))
    yield place
    place.close()


@contextmanager
def poller(place: Place) -> Iterator[subprocess.Popen[str]]:
    running = place.start("poller")
    try:
        until(lambda: place.beat("poller"), what="the poller")
        yield running
    finally:
        running.terminate()
        assert running.wait(timeout=30) == 0


def is_(place: Place, state: str) -> bool:
    beat = place.beat("poller")
    return beat is not None and beat.state == state


def is_enrolled(bridge: Bridge, number: int) -> bool:
    return bridge.messages.query_state(number).state != "sent"


def test_it_starts_without_the_server_and_works_when_that_is_there(
    place: Place, server: PostgresServer
) -> None:
    server.stop("immediate")
    with poller(place):
        until(lambda: is_(place, "held"), what="the poller to be held")
        beat = place.beat("poller")
        assert beat and "cannot be reached" in beat.note
        for command in (["hosts"], ["ask", "x", "--no-wait"], ["messages"], ["dead", "list"]):
            refused = place.run(*command, code=Exit.DOWN)
            assert refused.stderr.startswith("autopoll: ") and refused.stdout == ""
            assert "cannot be reached" in refused.stderr.splitlines()[0]
        assert any("cannot be reached" in each for each in place.json("status", code=2)["problems"])
        server.start()
        until(lambda: is_(place, "idle"), what="the poller to be ready")
        assert place.json_lines("hosts")[0]["alive"]
        server.stop("immediate")
        until(lambda: is_(place, "held"), what="the poller to be held")
        server.start()
        until(lambda: is_(place, "idle"), what="the poller to be ready")
    assert not place.json_lines("hosts")[0]["alive"], "it has left"


def test_what_a_program_stores_without_a_notification_is_found_by_looking(
    place: Place, server: PostgresServer
) -> None:
    with poller(place):
        until(lambda: is_(place, "idle"), what="the poller to be ready")
        with closing(place.bridge()) as bridge:
            conversation = talk(bridge)
            for _ in range(2):  # not just by the looks of a start
                [(number,)] = server.run_sql(
                    "INSERT INTO autopoll.messages(conversation_id, from_session, to_session,"
                    " message, read) VALUES(%s, 'a', 'b', 'why?', 0) RETURNING id",
                    conversation,
                )
                # Less than the quarter of a lease, after which it looks in any case.
                until(partial(is_enrolled, bridge, number), 10)


def test_it_ends_when_told_to_while_the_server_is_away(
    place: Place, server: PostgresServer
) -> None:
    server.stop("immediate")
    with poller(place):
        until(lambda: is_(place, "held"), what="the poller to be held")
    server.start()
    with poller(place):
        until(lambda: is_(place, "idle"), what="the poller to be ready")
        server.stop("immediate")
        until(lambda: is_(place, "held"), what="the poller to be held")
