"""Files under var/run that somebody replaced, spoilt or removed while the home was at work.

What is foreign is never read or written, is named in the log, and is in nobody's way once it is
gone again; the home answers meanwhile as long as it can.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from place import Place, until

CONFIG = """
[shards.main]
backend = "echo"
[shards.slow]
backend = "echo"
[shards.slow.options]
delay = "500ms"
"""
TREE = ["poller", "watchdog", "worker", "worker"]
PRECIOUS = "not to be touched\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("files") / "home", CONFIG).be_ordinary().running() as place:
        # `up` waits for the processes, and not for the links between them, which are broken here.
        assert place.ask("linked?")["status"] == "answered"
        yield place
        said = [path.read_text("utf-8", "replace") for path in place.home.log.glob("*.*")]
        assert not [text for text in said if "Traceback" in text]


@pytest.fixture
def precious(place: Place) -> Iterator[Path]:
    """A file of somebody else's; whatever leads to it, it stays as it is."""
    path = place.root / "precious.txt"
    path.write_text(PRECIOUS)
    path.chmod(0o600)
    yield path
    assert path.read_text() == PRECIOUS


# --- ways to replace a pipe; each returns what must be gone again for the home to use the path


def by_a_file(path: Path, precious: Path) -> None:
    path.unlink()
    path.write_text(PRECIOUS)


def by_a_symlink(path: Path, precious: Path) -> None:
    path.unlink()
    path.symlink_to(precious)


def by_a_folder(path: Path, precious: Path) -> None:
    path.unlink()
    path.mkdir()


def by_a_pipe_with_a_wrong_mode(path: Path, precious: Path) -> None:
    path.chmod(0o666)


def by_a_pipe_of_another_user(path: Path, precious: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)
    os.chown(path, 65534, -1)


def by_nothing(path: Path, precious: Path) -> None:
    path.unlink()


FOREIGN = [by_a_file, by_a_symlink, by_a_folder]
FOREIGN += [by_a_pipe_of_another_user] if os.geteuid() == 0 else []
OURS = [by_a_pipe_with_a_wrong_mode, by_nothing]


def named(way: Callable[[Path, Path], None]) -> str:
    return way.__name__


def mend(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif path.exists() or path.is_symlink():
        path.unlink()


def untouched(path: Path) -> bool:
    """Tell whether what was put at the path is still just that."""
    if path.is_file() and not path.is_symlink():
        return path.read_text() == PRECIOUS
    return path.is_dir() or path.is_symlink() or path.stat().st_uid == 65534


def log_of(place: Place, name: str) -> str:
    return (place.home.log / f"{name}.log").read_text()


def answered(place: Place, message: int) -> bool:
    with closing(place.bridge()) as bridge:
        return bridge.messages.query_state(message).state == "done"


def ask_later(place: Place, *more: str) -> int:
    return place.json("ask", "and now?", "--no-wait", *more)["id"]


# --- the pair of a worker


@pytest.mark.parametrize(
    "ways", [(by_a_file, by_a_symlink), (FOREIGN[-1], by_a_file)], ids=lambda ways: named(ways[0])
)
def test_a_pair_replaced_is_left_alone_named_and_made_anew_when_it_is_gone(
    place, precious, ways
) -> None:
    pipes = pair(place)
    for way, path in zip(ways, pipes, strict=True):
        way(path, precious)
    assert place.ask("over the pipes that are open?")["status"] == "answered"

    before = len(log_of(place, "worker"))
    place.kill("poller")  # so that the worker has to make a new pair
    until(lambda: "requests.fifo" in log_of(place, "worker")[before:], 20, "an error in the log")
    place.ready("poller")
    waiting = ask_later(place)
    assert all(untouched(path) for path in pipes)
    assert not answered(place, waiting)
    for path in pipes:
        mend(path)
    assert place.json("answer", str(waiting), "--timeout", "20s")["answer"] == "and now?"
    assert place.names() == TREE


@pytest.mark.long
def test_a_pair_that_only_has_a_wrong_mode_or_is_gone_is_made_anew_at_once(place, precious) -> None:
    requests, replies = pair(place)
    by_a_pipe_with_a_wrong_mode(requests, precious)
    by_nothing(replies, precious)
    assert place.ask("over the pipes that are open?")["status"] == "answered"
    place.kill("poller")
    assert place.ask("over new ones?", "--timeout", "20s")["status"] == "answered"
    for path in (requests, replies):
        assert path.is_fifo() and path.stat().st_mode & 0o777 == 0o600


def pair(place: Place) -> list[Path]:
    folder = place.home.workers / "worker"
    return [folder / "requests.fifo", folder / "replies.fifo"]


@pytest.mark.parametrize("content", [b"", b"[" * 4000])
def test_a_garbled_endpoint_neither_ends_a_link_nor_keeps_the_next_from_coming_up(
    place, content
) -> None:
    poller = place.pid("poller")
    endpoint = place.home.workers / "worker" / "endpoint.json"
    endpoint.write_bytes(content)
    before = place.beat("poller").loop_beat
    until(lambda: place.beat("poller").loop_beat > before + 1, what="the poller to look at it")
    assert place.ask("still linked?")["status"] == "answered"
    assert place.pid("poller") == poller


def test_a_garbled_endpoint_is_replaced_when_a_new_poller_comes(place) -> None:
    endpoint = place.home.workers / "worker" / "endpoint.json"
    os.kill(place.pid("worker"), signal.SIGSTOP)
    with suppress(ProcessLookupError):
        place.kill("poller")
    endpoint.write_bytes(b"[" * 4000)
    place.ready("poller")
    os.kill(place.pid("worker"), signal.SIGCONT)
    assert place.ask("linked again?", "--timeout", "30s")["status"] == "answered"


# --- bells


@pytest.mark.parametrize("way", [by_a_file, by_a_symlink, FOREIGN[-1]], ids=named)
def test_without_its_bell_the_poller_answers_within_its_second_and_names_what_lies_there(
    place, precious, way
) -> None:
    poller = place.pid("poller")
    before = len(log_of(place, "poller"))
    way(place.home.bell, precious)
    try:
        says_what_lies_there(place, before)
    finally:
        assert untouched(place.home.bell)
        mend(place.home.bell)
    until(place.home.bell.is_fifo, 30, "a new bell")
    assert place.ask("and now?")["status"] == "answered"
    until(lambda: place.beat("poller").note == "", 30, "the note to go")
    assert place.pid("poller") == poller


def says_what_lies_there(place: Place, before: int) -> None:
    assert place.ask("can you hear me?", "--timeout", "10s")["status"] == "answered"
    until(lambda: str(place.home.bell) in log_of(place, "poller")[before:], 30, "an error")
    note = {each["name"]: each for each in place.json("status")["processes"]}["poller"]["note"]
    assert str(place.home.bell) in note


@pytest.mark.parametrize("way", OURS, ids=named)
def test_a_bell_that_only_has_a_wrong_mode_or_is_gone_is_hung_up_anew(place, precious, way) -> None:
    way(place.home.bell, precious)
    until(lambda: place.home.bell.is_fifo() and place.home.bell.stat().st_mode & 0o777 == 0o600)
    assert place.ask("can you hear me?")["status"] == "answered"


# --- the poller's socket


@pytest.mark.parametrize("way", [by_a_file, by_a_symlink, FOREIGN[-1]], ids=named)
def test_without_its_socket_the_poller_is_asked_by_way_of_the_store_and_says_what_lies_there(
    place, precious, way
) -> None:
    poller = place.pid("poller")
    way(place.home.poller_socket, precious)
    try:
        until(lambda: str(place.home.poller_socket) in place.beat("poller").note, 30, "the note")
        assert place.ask("by the store?", "--timeout", "20s")["answer"] == "by the store?"
    finally:
        assert untouched(place.home.poller_socket)
        mend(place.home.poller_socket)
    until(place.home.poller_socket.is_socket, 30, "a new socket")
    until(lambda: place.beat("poller").note == "", 30, "the note to go")
    assert place.ask("and now?")["status"] == "answered"
    assert place.pid("poller") == poller


def test_a_socket_that_is_gone_is_made_again_and_who_waits_waits_on(place) -> None:
    poller = place.pid("poller")
    asking = place.start_ask("who is there?", "--shard", "slow")
    place.busy("worker-slow-1")
    place.home.poller_socket.unlink()
    out, err = asking.communicate(timeout=20)
    assert json.loads(out)["answer"] == "who is there?", err
    until(place.home.poller_socket.is_socket, 30, "a new socket")
    assert place.home.poller_socket.stat().st_mode & 0o777 == 0o600
    assert place.ask("and now?")["status"] == "answered"
    assert place.pid("poller") == poller


# --- heartbeats and everything


def test_a_garbled_or_replaced_heartbeat_comes_back_and_nobody_is_killed_for_it(
    place, precious
) -> None:
    names = ["poller", "worker", "watchdog"]
    pids = [place.pid(name) for name in names]
    beats = [place.home.beats / name for name in names]
    for beat in beats:
        beat.write_bytes(b"\xff" * 2048)
    until(lambda: all(place.beat(name) for name in names), 10, "beats")
    for beat in beats:
        by_a_symlink(beat, precious)
    status = place.json("status", code=None)
    assert set(names) < {each["name"] for each in status["processes"]}
    assert place.ask("are you well?")["status"] == "answered"
    for beat in beats:
        beat.unlink()
    until(lambda: all(place.beat(name) for name in names), 10, "beats")
    assert [place.pid(name) for name in names] == pids


def test_beside_the_heartbeats_lies_whatever_likes_to(place, precious) -> None:
    (place.home.beats / "notes.txt").write_text("mine")
    (place.home.beats / "folder").mkdir()
    (place.home.beats / "link").symlink_to(precious)
    os.mkfifo(place.home.beats / "pipe", 0o600)
    place.run("status")
    place.run("health")
    assert place.ask("are you well?")["status"] == "answered"


@pytest.mark.long
def test_when_var_run_is_removed_the_home_goes_on_and_says_what_is_missing(place) -> None:
    before = {name: place.pid(name) for name in ("poller", "worker", "watchdog")}
    shutil.rmtree(place.home.run)
    until(lambda: all(place.beat(name) for name in before), 15, "heartbeats")
    assert place.ask("are you there?", "--timeout", "20s")["status"] == "answered"
    assert {name: place.pid(name) for name in before} == before
    status = place.run("status", code=3)
    assert "supervisor" in status.stdout and "autopoll restart" in status.stdout
    health = place.json("health", code=3)
    assert health["verdict"] == "degraded"
    place.run("restart")
    place.run("health")
    assert place.names() == TREE
    assert place.ask("and now?")["status"] == "answered"
