"""A database that is full, locked, read-only, spoilt, or from another time."""

import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bridge_calls import OWN, ask
from legacy import Legacy
from place import Place, until

from autopoll.bridge.records import BridgeLimits, Failed
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.clock import wall_ms

pytestmark = pytest.mark.early

CONFIG = """
[shards.main]
backend = "echo"
[shards.slow]
backend = "echo"
[shards.slow.options]
delay = "400ms"
"""
LOCKED_S = 6.0  # by hand also with 30
KIB = 1024
HOUR_MS = 3_600_000
LONG = "why? " * 20 * KIB


# --- no room


class FileLimit:
    """A limit on the size of files, as a quota would be; any user can set it."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def fill(self) -> None:
        size = 16 * KIB  # less than a question needs; what is written already stays
        resource.prlimit(self.place.pid("poller"), resource.RLIMIT_FSIZE, (size, -1))
        self.place.command[:0] = ["prlimit", f"--fsize={size}"]

    def fill_up(self) -> None:
        """Nothing that is written gives back what a limit takes away."""

    def is_told(self, problems: list[str]) -> None:
        """There is room on the disk, for others."""
        assert problems == []

    def free(self) -> None:
        resource.prlimit(self.place.pid("poller"), resource.RLIMIT_FSIZE, (-1, -1))
        del self.place.command[:2]


class SmallDisk:
    """A disk of 6 MB under var/."""

    def __init__(self, place: Place) -> None:
        self.filler = place.home.var / "filler"

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as file:
            for size in (64 * KIB, 4 * KIB, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def fill_up(self) -> None:
        """Take what the database gave back to find room."""
        self.fill()

    def is_told(self, problems: list[str]) -> None:
        [problem] = problems
        assert re.fullmatch(
            rf"\d+ (kB|bytes) free at {self.filler.parent}: too little, at least 64 MB", problem
        )

    def free(self) -> None:
        self.filler.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("store") / "home", CONFIG).be_ordinary().running() as place:
        yield place
        said = [path.read_text("utf-8", "replace") for path in place.home.log.glob("*.*")]
        assert not [text for text in said if "Traceback" in text]


@pytest.fixture
def limited(place: Place) -> FileLimit:
    return FileLimit(place)


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Place]:
    root = tmp_path / "home"
    with small_disk(root / "var"), Place(root, CONFIG).be_ordinary().running() as place:
        yield place


def goes_through_a_shortage(place: Place, disk: FileLimit | SmallDisk) -> None:
    pids = {name: place.pid(name) for name in ("poller", "worker", "watchdog")}
    asking = place.start_ask(LONG, "--shard", "slow")
    place.busy("worker-slow-1")
    disk.fill()

    def out_of_room() -> bool:
        disk.fill_up()
        return "no room" in place.beat("poller").note

    until(out_of_room, 20, "the poller to run out of room")
    status = place.json("status", code=1)
    [poller] = [each for each in status["processes"] if each["name"] == "poller"]
    assert poller["state"] == "held" and "no room to write" in poller["note"]
    assert not status["ready"]
    disk.is_told(status["problems"])
    health = place.json("health", code=2)
    [check] = [each for each in health["checks"] if each["name"] == "poller"]
    assert not check["ok"] and "no room to write" in check["detail"]

    kept: list[int] = []
    for number in range(6):
        text = f"question {number} " + "x" * (30 * KIB if number % 2 else 0)
        done = place.run("ask", text, "--no-wait", "--json", code=None)
        if done.returncode == 0:
            kept.append(json.loads(done.stdout)["id"])
            continue
        assert done.returncode == 2
        error = json.loads(done.stderr)
        assert "no room to write" in error["error"] and "nothing was changed" in error["error"]
        assert "Make room" in error["mend"]
    assert len(kept) < 6
    assert asking.poll() is None
    before = count(place)

    disk.free()
    out, err = asking.communicate(timeout=30)
    assert asking.returncode == 0, err
    assert json.loads(out)["attempts"] == 1
    for message in kept:
        assert place.json("answer", str(message))["status"] == "answered"
    assert place.ask(LONG)["status"] == "answered"
    assert count(place) == before + 1
    assert {name: place.pid(name) for name in pids} == pids
    until(lambda: place.beat("poller").note == "", 30, "the note to go")
    with closing(sqlite3.connect(place.home.var / "bridge.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def count(place: Place) -> int:
    """Return how many questions are stored."""
    with closing(place.bridge()) as bridge:
        return sum(message.recipient == "b" for message in bridge.messages.find(limit=10_000))


@pytest.mark.long
def test_at_the_file_size_limit_askers_are_told_and_work_goes_on_when_it_is_raised(
    place, limited
) -> None:
    goes_through_a_shortage(place, limited)


if os.geteuid() == 0:  # mounting a small disk takes root

    def test_on_a_full_disk_askers_are_told_and_work_goes_on_when_there_is_room(
        on_a_small_disk,
    ) -> None:
        goes_through_a_shortage(on_a_small_disk, SmallDisk(on_a_small_disk))


# --- damaged while it is in use


@pytest.mark.long
def test_a_database_that_is_damaged_in_use_is_told_by_all_and_no_process_dies_of_it(
    new_place,
) -> None:
    place = new_place(CONFIG)
    place.run("up")
    question = place.ask("before?")["id"]
    pids = {name: place.pid(name) for name in ("poller", "worker", "watchdog")}
    path = place.home.var / "bridge.db"
    kept = path.read_bytes()
    for each in (path, path.with_name("bridge.db-wal")):
        with each.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (each.stat().st_size - 4096))
    until(lambda: "is damaged" in place.beat("poller").note, what="the poller to say so")
    refused = place.run("ask", "why?", code=2)
    assert "is damaged" in refused.stderr and "restore a backup" in refused.stderr
    status = place.json("status", code=1)
    assert any("is damaged" in problem for problem in status["problems"])
    health = place.json("health", code=2)
    failed = {each["name"]: each["detail"] for each in health["checks"] if not each["ok"]}
    assert "is damaged" in failed["database"] and "restore a backup" in failed["database"]
    assert failed["poller"].startswith("held: ") and "is damaged" in failed["poller"]
    assert {name: place.pid(name) for name in pids} == pids
    assert place.json_lines("incidents") == []
    for log in place.home.log.glob("*.*"):
        assert "Traceback" not in log.read_text("utf-8", "replace")

    place.run("down")
    for each in path.parent.glob("bridge.db*"):
        each.unlink()
    path.write_bytes(kept)  # a backup, of what was in the file alone
    place.run("up")
    assert place.ask("and now?")["status"] == "answered"
    place.run("answer", str(question), "--no-wait", code=None)
    place.run("health", "--deep")


# --- locked, read-only


@contextmanager
def locker(path: Path) -> Iterator[Callable[[], None]]:
    """Lend what has another program take the database's write lock, and hold it to the end."""
    program = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "print('there', flush=True); sys.stdin.readline(); db.execute('BEGIN IMMEDIATE');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin and stdout
        assert stdout.readline() == b"there\n"

        def lock() -> None:
            stdin.write(b"now\n")
            stdin.flush()
            assert stdout.readline() == b"locked\n"

        yield lock
        stdin.close()


@pytest.mark.long
def test_while_another_program_locks_the_database_askers_are_told_and_nobody_is_killed(
    place,
) -> None:
    pids = {name: place.pid(name) for name in ("poller", "worker", "watchdog")}
    incidents = place.run("incidents", "--json").stdout
    with locker(place.home.var / "bridge.db") as lock:
        asking = place.start_ask("in flight?", "--shard", "slow")
        place.busy("worker-slow-1")
        lock()
        end = time.monotonic() + LOCKED_S
        while time.monotonic() < end:
            refused = place.run("ask", "why?", code=2)
            assert "is locked by another program" in refused.stderr
            assert "Try again" in refused.stderr
            status = place.json("status", code=None)
            assert status["queue"]["leased"] <= 1
        assert asking.poll() is None
        notes = [each["note"] for each in status["processes"]]
        assert any("is locked by another program" in note for note in notes)
    out, err = asking.communicate(timeout=30)
    assert asking.returncode == 0, err
    assert json.loads(out)["attempts"] == 1
    assert place.ask("and now?")["status"] == "answered"
    assert {name: place.pid(name) for name in pids} == pids
    assert place.run("incidents", "--json").stdout == incidents


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take every right to write below a folder away."""
    modes = {path: path.lstat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_while_var_is_read_only_askers_are_told_and_looking_works(place) -> None:
    with read_only(place.home.var):
        refused = place.run("ask", "why?", code=None)
        assert refused.returncode in (1, 2)
        assert "read-only" in refused.stderr or "Permission denied" in refused.stderr
        for command in ("status", "messages", "incidents", "logs"):
            place.run(command, code=None)
    assert place.ask("and now?")["status"] == "answered"


# --- a database that cannot be used; nothing runs


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("resting") / "home", CONFIG).be_ordinary()
    with closing(place.bridge()) as bridge:
        conversation = bridge.conversations.all()[0].id
        for number in range(50):
            ask(bridge, conversation, f"question {number} " + "x" * 500)
        bridge.deliveries.claim("nobody", {"main": 1}, 60_000)
    with closing(sqlite3.connect(place.home.var / "bridge.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yield place
    place.close()


@pytest.fixture
def database(resting: Place) -> Iterator[Path]:
    """The file, put back afterwards."""
    path = resting.home.var / "bridge.db"
    kept = path.read_bytes()
    yield path
    path.chmod(0o600)
    for each in path.parent.glob("bridge.db*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    path.write_bytes(kept)
    path.chmod(0o600)


def damage_all(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")


def close_to_all(path: Path) -> None:
    path.chmod(0)


def close_to_writers(path: Path) -> None:
    path.chmod(0o400)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_notes(path: Path) -> None:
    path.write_bytes(b"these are my notes\n" * 500)


def named(value: object) -> str | None:
    return getattr(value, "__name__", None)


UNUSABLE = {
    damage_all: "is damaged",
    cut: "is damaged",
    make_newer: "newer schema version 99",
    make_notes: "is not an SQLite database",
    close_to_all: "cannot open",
    make_a_folder: "cannot ",
}


@pytest.mark.parametrize(("spoil", "reason"), UNUSABLE.items(), ids=named)
def test_a_database_that_cannot_be_used_is_named_by_every_command_and_left_alone(
    resting, database, spoil: Callable[[Path], None], reason
) -> None:
    spoil(database)
    before = contents(database)
    for command in ("ask why?", "up", "messages"):
        refused = resting.run(*command.split(), code=2)
        assert reason in refused.stderr
        assert str(database) in refused.stderr
        assert refused.stderr.count("\n") == 2, "what happened, and what to do about it"
    status = resting.json("status", code=2)
    assert any(reason in problem for problem in status["problems"])
    health = resting.json("health", code=2)
    [check] = [check for check in health["checks"] if check["name"] == "database"]
    assert not check["ok"] and reason in check["detail"]
    assert contents(database) == before
    assert resting.processes() == []


def contents(path: Path) -> bytes | None:
    if path.is_dir():
        return None
    mode = path.stat().st_mode & 0o777
    path.chmod(0o600)
    try:
        return path.read_bytes()
    finally:
        path.chmod(mode)


def test_a_database_that_may_only_be_read_can_be_looked_at_and_nothing_else(
    resting, database
) -> None:
    close_to_writers(database)
    for command in ("ask why?", "up", "init ."):
        refused = resting.run(*command.split(), code=2)
        assert "read-only" in refused.stderr
    assert "question 7" in resting.run("messages").stdout
    assert resting.json("status", code=2)["queue"]["queued"] >= 48


def test_a_database_damaged_in_its_queue_alone_is_named_too(resting, database) -> None:
    with closing(sqlite3.connect(database)) as db:
        pages = db.execute("SELECT rootpage FROM sqlite_schema WHERE name='d_ready'").fetchall()
    content = bytearray(database.read_bytes())
    for (page,) in pages:
        content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    database.write_bytes(content)
    try:
        refused = resting.run("up", code=2, timeout=60)
        assert "is damaged" in refused.stderr
    finally:
        resting.run("down")


# --- another one


@pytest.mark.long
def test_a_database_replaced_while_everything_runs_is_the_one_that_is_answered_in(tmp_path) -> None:
    place = Place(tmp_path / "home")
    database = place.home.var / "bridge.db"
    with (
        closing(sqlite3.connect(database)) as db,
        closing(sqlite3.connect(place.home.var / "backup.db")) as backup,
    ):
        db.backup(backup)
    with place.running():
        before = place.pid("poller")
        assert place.ask("before?")["id"] == 1
        for ending in ("-wal", "-shm"):
            database.with_name(f"bridge.db{ending}").unlink()
        (place.home.var / "backup.db").replace(database)
        assert place.ask("answered in which?", "--timeout", "60s")["id"] == 1
        assert place.pid("poller") != before
        with closing(sqlite3.connect(database)) as db:
            assert db.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        assert {each["process"] for each in until(lambda: place.json_lines("incidents"))} == {
            "poller"
        }


# --- from another time


@pytest.mark.long
def test_rows_of_a_poller_whose_clock_ran_an_hour_ahead_are_answered_at_once(tmp_path) -> None:
    place = Place(tmp_path / "home", CONFIG)
    # So few that what it sends uses up the budget, twenty seconds of it.
    limits = BridgeLimits(rate_per_s=0.15, rate_burst=4)
    ahead = SqliteBridge(place.home.var / "bridge.db", limits, clock=lambda: wall_ms() + HOUR_MS)
    made = place.json("conversations", "create", "--shard", "main")
    client = Legacy(place.home.var / "bridge.db")
    asked = [client.insert(made["conversation"], f"question {number}?") for number in range(4)]
    own = ask(ahead, made["conversation"], *["later?"] * 3, metadata=OWN)
    owner = "a poller from the future"
    taken = ahead.deliveries.claim(owner, {"main": 3}, 60_000)
    assert len(taken) == 3
    # One is to wait for long before it is tried again; the other two stay leased: it was killed.
    ahead.deliveries.settle(
        [Failed(message_id=taken[0].message_id, fence=taken[0].fence, error="x", wait_ms=60_000)],
        owner,
    )
    ahead.close()
    with place.running():
        ids = [str(message) for message in (*asked, *own)]
        lines = place.run("answer", *ids, "--json", "--timeout", "20s").stdout.splitlines()
        results = [json.loads(line) for line in lines]
        assert [result["status"] for result in results] == ["answered"] * len(ids)
        assert min(result["latency_ms"] for result in results) >= 0
        sent = ["send", made["conversation"], "and now?"]
        place.environ["AUTOPOLL_TOKEN"] = made["tokens"]["a"]
        place.run(*sent)
        assert place.ask("and now?")["status"] == "answered"
