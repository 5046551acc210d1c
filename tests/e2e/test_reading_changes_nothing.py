"""Commands that look change nothing: no row, no file, not even the time of one."""

import hashlib
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from bridge_calls import ask
from place import Place, until

pytestmark = pytest.mark.long

CONFIG = """
[delivery]
max_attempts = 1
[shards.main]
backend = "echo"
[shards.main.options]
concurrency = 2
[shards.docs]
backend = "extract"
context = ["notes"]
"""
LIVELY = ("var/run/beats/", "var/run/workers/", "var/log/")  # written by those who work
# SQLite's index of its log: the first reader makes it (and an empty log), and it holds no data.
INDEX = ("var/bridge.db-shm", "var/bridge.db-wal")


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, list[str]]]:
    """A home with some history, and every command that looks at it."""
    root = tmp_path_factory.mktemp("reading") / "home"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "gate.md").write_text("# The gate\n\nThe gate opens at nine.\n")
    with Place(root, CONFIG).be_ordinary().running() as place:
        answered = place.ask("why?")["id"]
        failed = place.ask("why?", "--shard", "docs", "--context-file", "none", code=1)["id"]
        with closing(place.bridge()) as bridge:
            conversation = bridge.conversations.create("one", "other").conversation
            ask(bridge, conversation, "unread")
        killed = place.kill("worker")
        until(lambda: (beat := place.beat("worker")) and beat.pid != killed, what="a new worker")
        place.ready("worker", "worker-docs-1", "poller", "watchdog")
        assert place.ask("and now?")["status"] == "answered"
        until(lambda: "not yet" not in place.run("incidents").stdout, what="the recovery")
        yield place, looking_commands(conversation, answered, failed)


def looking_commands(conversation: str, answered: int, failed: int) -> list[str]:
    return [
        "--help", "status", "health", "messages", "messages --unread", "conversations list",
        f"messages --conversation {conversation} --type text",
        f"conversations show {conversation}", f"answer {answered}", f"answer {failed} --no-wait",
        "shards list", "incidents", "dead list", f"dead show {failed}", "logs", "logs poller -n 5",
        "audit", "audit --since 1h", "conversations search why", "conversations search unread",
        "doctor", "doctor", "queue", "queue", "hosts", "hosts", f"trace {answered}",
        f"trace {failed}", "prune --dry-run", "prune --older-than 0s --dry-run", "bridge sql",
        "ask --help", "inbox --help", "--version",
        "conversations show conv_none", "answer 999999", "dead show 999999", "logs nobody",
    ]  # fmt: skip


def snapshot(place: Place, *, at_work: bool) -> dict[str, object]:
    """Return everything that could change, and must not."""
    seen: dict[str, object] = {}
    for path in sorted(place.root.rglob("*")):
        name = str(path.relative_to(place.home.root))
        if name in INDEX or (at_work and name.startswith(LIVELY)):
            continue
        found = path.lstat()
        what = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        when = found.st_mtime_ns if name != "var" else None  # as the index comes into it
        seen[name] = (stat.filemode(found.st_mode), found.st_ino, when, what)
    database = place.home.var / "bridge.db"
    if at_work:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table'"):
                seen[f"table {table}"] = db.execute(f"SELECT * FROM {table}").fetchall()
    return seen


def look(place: Place, commands: list[str]) -> None:
    for number, command in enumerate(commands):
        place.run(*command.split(), *(["--json"] if number % 2 else []), code=None)


def test_looking_at_a_home_at_work_changes_no_row_and_no_file(looks) -> None:
    place, commands = looks
    unread = place.run("messages", "--unread", "--json").stdout
    assert "unread" in unread
    before = snapshot(place, at_work=True)
    look(place, commands)
    assert snapshot(place, at_work=True) == before
    assert place.run("messages", "--unread", "--json").stdout == unread


def test_looking_at_a_home_at_work_needs_no_right_to_write_the_database(looks) -> None:
    place, _ = looks
    with no_writing(place.home.var / "bridge.db"), no_writing(place.home.var):
        looking_works(place, code=0)


def test_looking_at_a_home_that_is_down_changes_no_row_and_no_file(looks) -> None:
    place, commands = looks
    place.run("down")
    before = snapshot(place, at_work=False)
    look(place, commands)
    assert snapshot(place, at_work=False) == before
    log = place.home.var / "bridge.db-wal"
    assert not log.exists() or log.stat().st_size == 0
    assert "unread" in place.run("messages", "--unread").stdout


def test_looking_at_a_home_that_is_down_needs_no_right_to_write_the_database(looks) -> None:
    """But one to make files beside it, for SQLite's index."""
    place, _ = looks
    place.run("down")
    with no_writing(place.home.var / "bridge.db"):
        looking_works(place, code=2)


@contextmanager
def no_writing(path: Path) -> Iterator[None]:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode & 0o555)
    try:
        yield
    finally:
        path.chmod(mode)


def looking_works(place: Place, code: int) -> None:
    for command in ("messages", "conversations list", "dead list", "answer 1 --no-wait"):
        place.run(*command.split())
    status = place.json("status", code=code)
    assert status["queue"]["done"] == 3
    assert status["problems"] == []


def test_looking_at_a_home_that_was_never_up_changes_no_row_and_no_file(tmp_path) -> None:
    place = Place(tmp_path / "home").be_ordinary()
    before = snapshot(place, at_work=False)
    look(place, looking_commands("conv_none", 1, 2)[1:9])
    assert snapshot(place, at_work=False) == before
    place.close()


def test_looking_at_a_folder_with_settings_alone_makes_nothing_in_it(tmp_path) -> None:
    other = Place(tmp_path / "other").be_ordinary()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "autopoll.toml").write_text(CONFIG)
    for command in ("status", "health", "messages", "incidents", "logs", "answer 1"):
        other.run(*command.split(), "--home", str(bare), code=None)
    assert [path.name for path in bare.iterdir()] == ["autopoll.toml"]
    other.close()
