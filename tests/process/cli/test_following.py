"""Followed messages: each new one once and in order, whatever becomes of the bridge meanwhile."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bridge_calls import ask, talk
from place import ECHO, Place, until
from postgres_server import PostgresServer

from autopoll.bridge.connect import connect
from autopoll.errors import BridgeError, Exit
from autopoll.home.config import load

OUTAGE = "going on when it can be read again"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "home")
    yield place
    place.state.cleanup()


class Follower:
    """`autopoll … --follow` with what it prints, line by line as it comes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        for stream, kept in ((process.stdout, self.lines), (process.stderr, self.errors)):
            threading.Thread(target=self._read, args=(stream, kept), daemon=True).start()

    def _read(self, stream, kept: list[str]) -> None:
        for line in stream:
            kept.append(line)

    def ids(self) -> list[int]:
        return [json.loads(line)["id"] for line in list(self.lines)]

    def said(self, words: str) -> bool:
        return any(words in line for line in list(self.errors))


@contextmanager
def following(place: Place, *args: str) -> Iterator[Follower]:
    process = place.start("messages", "--follow", "--json", *args)
    try:
        yield Follower(process)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == Exit.INTERRUPTED


def send(place: Place, *texts: str) -> list[int]:
    with closing(connect(place.home, load(place.home, {}))) as bridge:
        conversation = next(iter(bridge.conversations.all())).id
        return ask(bridge, conversation, *texts)


def test_what_several_write_at_once_comes_once_and_in_order(place: Place) -> None:
    first = send(place, "before")
    with following(place) as follower:
        until(lambda: follower.lines, what="what was there before")
        writers = [
            threading.Thread(target=lambda: [send(place, str(n)) for n in range(40)])
            for _ in range(3)
        ]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        many = send(place, *(str(n) for n in range(1200)))
        until(lambda: follower.ids()[-1:] == many[-1:], what="the last message")
        ids = follower.ids()
        assert ids == sorted(set(ids)) == list(range(first[0], many[-1] + 1))
        assert follower.errors == []


def test_new_messages_come_where_none_were_and_only_those_that_are_wanted(place: Place) -> None:
    with closing(connect(place.home, load(place.home, {}))) as bridge:
        other = talk(bridge, None)
    with following(place, "--conversation", other) as follower:
        send(place, "not this")
        with closing(connect(place.home, load(place.home, {}))) as bridge:
            [wanted] = ask(bridge, other, "this")
        until(lambda: follower.lines, what="the message")
        assert follower.ids() == [wanted]


def test_a_database_that_is_moved_away_and_put_back_costs_no_message(place: Place) -> None:
    var = place.home.var
    [zero] = send(place, "zero")
    with following(place) as follower:
        until(lambda: follower.ids() == [zero], what="what was there before")
        [one] = send(place, "one")
        until(lambda: follower.ids() == [zero, one], what="the first message")
        for name in ("bridge.db", "bridge.db-wal", "bridge.db-shm"):
            if (var / name).exists():
                (var / name).rename(var / f"{name}.away")
        until(lambda: follower.said(OUTAGE), what="the outage to be noticed")
        for path in var.glob("*.away"):
            path.rename(path.with_suffix(""))
        [two] = send(place, "two")
        until(lambda: follower.ids() == [zero, one, two], what="the second message")
        assert follower.said("can be read again")
        assert sum(OUTAGE in line for line in follower.errors) == 1


@pytest.mark.long
def test_a_server_that_goes_and_comes_back_costs_no_message(tmp_path: Path) -> None:
    with PostgresServer() as server:
        place = Place(tmp_path / "home", None)
        place.home.config.write_text(f"{ECHO}[bridge]\nurl = {json.dumps(server.url())}\n")
        place.home.config.chmod(0o600)
        place.run("init", str(place.root))
        [zero] = send(place, "zero")
        with following(place) as follower:
            until(lambda: follower.ids() == [zero], what="what was there before")
            [one] = send(place, "one")
            until(lambda: follower.ids() == [zero, one], what="the first message")
            server.stop("immediate")
            until(lambda: follower.said(OUTAGE), what="the outage to be noticed")
            server.start()
            [two] = until(lambda: sent(place, "two"), what="the server")
            until(lambda: follower.ids() == [zero, one, two], what="the second message")
        place.state.cleanup()


def sent(place: Place, text: str) -> list[int]:
    try:
        return send(place, text)
    except BridgeError:
        return []


def test_a_reader_that_goes_ends_it_though_nothing_comes(place: Place) -> None:
    send(place, "one")
    command = " ".join([*place.command, "messages", "--follow"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=place.root, env=place.environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == Exit.READER_GONE
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_on_a_narrow_terminal_each_new_message_is_one_line(place: Place) -> None:
    [one] = send(place, json.dumps({"type": "query", "question": "Why does this stand here? " * 9}))
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*place.command, "messages", "--follow"],
        cwd=place.root, env=place.environ | {"COLUMNS": "40"},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        seen = read_until(master, lambda text: text.count("\n") >= 1)
        assert seen.startswith(f"{one}  a to b  ") and "Why does" in seen
        assert len(seen.rstrip()) <= 40
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == Exit.INTERRUPTED
        os.close(master)


def read_until(master: int, condition: Callable[[str], bool]) -> str:
    seen = b""
    while not condition(seen.decode(errors="replace")):
        seen += os.read(master, 65536)
    return seen.decode()
