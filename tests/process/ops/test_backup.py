"""A backup of a bridge in use, and one put back."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from bridge_calls import ask
from place import ECHO, Place, until

from autopoll.bridge.sqlite import schema

EARLIER = Path(__file__).parents[2] / "data" / "earlier_home.tar.gz"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home that is down, with two answered questions in its bridge."""
    place = Place(tmp_path_factory.mktemp("backup") / "home")
    try:
        place.run("up")
        place.ask("one")
        place.ask("two")
        place.down()
        place.run("backup", "good.db")
        yield place
    finally:
        place.close()


def bridge_file(place: Place) -> Path:
    return place.home.var / "bridge.db"


def look(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return db.execute(sql).fetchall()


def left_over(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


def test_a_backup_beside_a_stream_of_questions_is_whole_private_and_of_one_moment(
    new_place,
) -> None:
    place = new_place()
    with place.running():
        place.ask("before")
        over = threading.Event()

        def go_on() -> None:
            with closing(place.bridge()) as bridge:
                name = bridge.conversations.all()[0].id
                while not over.wait(0.02):  # as often as a session may
                    ask(bridge, name, "?", "!")

        asking = threading.Thread(target=go_on)
        asking.start()
        try:
            reports = [place.json("backup", f"copy-{number}.db") for number in range(3)]
        finally:
            over.set()
            asking.join()
    for report in reports:
        path = Path(report["file"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert look(path, "PRAGMA integrity_check") == [("ok",)]
        [(asked, messages)] = look(
            path, "SELECT sum(from_session='a' AND length(message)=1), count(*) FROM messages"
        )
        assert isinstance(asked, int)
        assert asked % 2 == 0, "each commit is in it whole or not at all"
        assert report["holds"]["messages"] == messages
        assert report["holds"]["schema"] == schema.KNOWN
    assert str(place.home.credentials) in reports[0]["not_in_it"]
    assert left_over(place.root) == []
    assert [each.suffix for each in place.root.glob("copy-*")] == [".db"] * 3, "and no log"


@pytest.mark.long
def test_what_is_put_back_is_what_was_copied_and_numbers_go_on(new_place) -> None:
    place = new_place()
    with place.running():
        kept = place.ask("kept")["id"]
        place.run("backup", "copy.db")
        later = place.ask("later")["id"]
        refused = place.run("restore", "copy.db", code=1)
        assert "autopoll down" in refused.stderr
        place.down()
        report = place.json("restore", "copy.db")
        assert look(Path(report["kept"]), f"SELECT count(*) FROM messages WHERE id={later}") == [
            (1,)
        ]
        assert bridge_file(place).stat().st_mode & 0o777 == 0o600
        place.run("up")
        assert place.json("answer", str(kept))["answer"] == "kept"
        place.run("answer", str(later), code=2)
        assert place.ask("again")["id"] > later, "no number means two things"
        assert place.json("health")["verdict"] == "ok"


def test_a_backup_serves_a_new_home_as_well(home: Place, new_place) -> None:
    other = new_place(name="other")
    shutil.copy(home.root / "good.db", other.root)
    other.run("restore", "good.db")
    with other.running():
        assert other.ask("hello")["answer"] == "hello"
        assert other.json("answer", "1")["answer"] == "one"


def test_a_file_that_is_there_is_replaced_only_when_told_to(home: Place) -> None:
    target = home.root / "there.db"
    target.write_text("mine")
    assert "--force" in home.run("backup", "there.db", code=2).stderr
    assert target.read_text() == "mine"
    home.run("backup", "there.db", "--force")
    assert look(target, "SELECT count(*) FROM answers") == [(2,)]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("var/bridge.db", 4),
        ("var/../var/bridge.db-wal", 4),
        ("nowhere/copy.db", 2),
        ("autopoll.toml/copy.db", 2),
        ("conf", 2),
        ("n" * 300, 2),
        ("/dev/full", 2),
        ("/proc/copy.db", 2),
        ("", 2),
    ],
)
def test_a_place_that_cannot_hold_a_backup_is_named_and_nothing_is_left(
    home: Place, target: str, code: int
) -> None:
    before = bridge_file(home).read_bytes()
    done = home.run("backup", target, "--force" if code == 4 else "--json", code=code)
    assert done.stderr
    assert bridge_file(home).read_bytes() == before
    assert left_over(home.root) == left_over(home.home.var) == []


def _cut(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-8192])


def _spoil(path: Path, good: Path) -> None:
    """Spoil a page that nothing looks at but a check of all pages."""
    [(root,)] = look(good, "SELECT rootpage FROM sqlite_schema WHERE name='audit_log'")
    assert isinstance(root, int)
    content = bytearray(good.read_bytes())
    content[4096 * (root - 1) : 4096 * root] = bytes(range(256)) * 16
    path.write_bytes(content)


def _newer(path: Path, good: Path) -> None:
    shutil.copy(good, path)
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", schema.KNOWN + 1)


def _foreign(path: Path, good: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY); PRAGMA user_version=2")


def _legacy(path: Path, good: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY)")


UGLY: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, good: None,
    "empty": lambda path, good: path.touch(),
    "text": lambda path, good: path.write_text("no database\n" * 1000),
    "folder": lambda path, good: path.mkdir(),
    "pipe": lambda path, good: os.mkfifo(path),
    "loop": lambda path, good: path.symlink_to(path),
    "cut": _cut,
    "spoiled": _spoil,
    "newer": _newer,
    "foreign": _foreign,
    "legacy": _legacy,
    "\x1b[31mred": lambda path, good: path.write_bytes(b"\0" * 100),
}


@pytest.mark.parametrize("kind", UGLY)
def test_a_file_that_is_no_whole_backup_of_ours_is_refused_and_all_stays_as_it_is(
    home: Place, kind: str
) -> None:
    path = home.root / f"ugly-{kind}"
    UGLY[kind](path, home.root / "good.db")
    before = bridge_file(home).read_bytes()
    done = home.run("restore", path.name, code=2)
    assert len(done.stderr.splitlines()) == 2
    assert "\x1b" not in done.stderr
    assert bridge_file(home).read_bytes() == before
    assert left_over(home.home.var) == []
    assert not list(home.home.var.glob("bridge.db.before*"))


def test_a_database_that_another_program_has_open_is_not_replaced(home: Place) -> None:
    with closing(apsw.Connection(str(bridge_file(home)))) as db:
        db.execute("SELECT count(*) FROM messages").fetchall()
        done = home.run("restore", "good.db", code=2)
    assert "another program has" in done.stderr
    assert look(bridge_file(home), "SELECT count(*) FROM answers") == [(2,)]


def test_a_damaged_bridge_is_kept_aside_with_its_log(home: Place, new_place) -> None:
    place = new_place(name="damaged")
    file = bridge_file(place)
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    Path(f"{file}-wal").write_bytes(b"\1" * 100)
    shutil.copy(home.root / "good.db", place.root)
    kept = Path(place.json("restore", "good.db")["kept"])
    assert kept.read_bytes().endswith(b"\xff")
    assert Path(f"{kept}-wal").exists()
    assert look(file, "SELECT count(*) FROM answers") == [(2,)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_backup_that_is_ended_in_the_middle_leaves_no_file_and_the_next_clears_up(
    new_place, number: signal.Signals
) -> None:
    place = new_place()
    with closing(apsw.Connection(str(bridge_file(place)))) as db:
        db.execute("INSERT INTO messages(message,read) VALUES(hex(zeroblob(50000000)),1)")
    running = place.start("backup", "copy.db")
    until(lambda: left_over(place.root), what="the copy to begin")
    os.kill(running.pid, number)
    running.wait()
    assert not (place.root / "copy.db").exists()
    if number == signal.SIGINT:
        assert left_over(place.root) == []
    place.run("backup", "copy.db")
    assert left_over(place.root) == []


def test_a_migration_keeps_a_copy_of_the_home_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("earlier") / "home"
    shutil.unpack_archive(EARLIER, root)
    place = Place(root, None)
    file = bridge_file(place)
    [(version,)] = look(file, "PRAGMA user_version")
    assert isinstance(version, int)
    assert version < schema.KNOWN
    messages = look(file, "SELECT count(*) FROM messages")
    place.run("init", str(place.root))
    [copy] = place.home.backups.iterdir()
    assert copy.name.startswith(f"bridge-schema-{version}-")
    assert (copy.stat().st_mode & 0o777, place.home.backups.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert look(copy, "PRAGMA user_version") == [(version,)]
    assert look(copy, "SELECT count(*) FROM messages") == messages
    assert look(file, "PRAGMA user_version") == [(schema.KNOWN,)]
    place.run("restore", str(copy))
    assert look(file, "PRAGMA user_version") == [(version,)]
    place.run("init", str(place.root))
    assert look(file, "PRAGMA user_version") == [(schema.KNOWN,)]
    place.close()


def test_a_bridge_on_a_server_is_left_to_its_own_tools(tmp_path: Path) -> None:
    place = Place(tmp_path / "home", None)
    (place.root / "autopoll.toml").write_text(
        f'{ECHO}\n[bridge]\nurl = "postgresql://agents@db.example.org/agents"\n'
    )
    done = place.run("backup", "copy file.db", code=4)
    assert "pg_dump --format=custom --schema=autopoll --file='" in done.stderr
    assert "copy file.db' postgresql://agents@db.example.org/agents" in done.stderr
    assert "pg_restore" in place.run("restore", "copy.db", code=4).stderr
    place.state.cleanup()
