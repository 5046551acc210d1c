"""A store that is locked, full, read-only, ruined or too new: a clear error, nothing lost."""

import multiprocessing
import os
import pwd
import resource
import select
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import apsw
import pytest
from answerers import take_over
from bridge_calls import OWN, send

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answered, Arrival, BridgeLimits, SentMessage
from autopoll.bridge.sqlite import SqliteBridge, busy_handler, connection, filesystem, schema
from autopoll.clock import utc_day, wall_ms
from autopoll.errors import BridgeBusy, BridgeError, BridgeFull, ConfigError, RowRefused
from autopoll.home.bridge_url import BridgeUrl
from autopoll.message import Answer
from autopoll.request import Usage

KIB = 1024
FORK = multiprocessing.get_context("fork")


def make(path: Path) -> SqliteBridge:
    return SqliteBridge(path, BridgeLimits(), create=True)


def ask(bridge: Bridge, text: str = "why?") -> int:
    """Send a question in a conversation that is served, the same one each time."""
    known = bridge.conversations.all()
    if known:
        name = known[0].id
    else:
        name = bridge.conversations.create("asker", "shard").conversation
        bridge.conversations.serve(name, "b", "main")
    (number,) = send(bridge, name, "a", text, metadata=OWN)
    return number


def answer_one(bridge: Bridge) -> str:
    (delivery,) = bridge.deliveries.claim("me", {"main": 1}, 60_000)
    outcome = Answered(
        message_id=delivery.message_id, fence=delivery.fence, answer=Answer(text="because")
    )
    (settled,) = bridge.deliveries.settle([outcome], "me")
    return settled.state


# --- where the store is


def test_a_url_of_another_kind_is_refused_with_the_forms_allowed(tmp_path: Path) -> None:
    for url in (
        "",
        "bridge.db",
        "sqlite://bridge.db",
        "sqlite:///",
        "mysql://x",
        "sqlite:///\0",
    ):
        with pytest.raises(ConfigError) as refused:
            open_bridge(BridgeUrl(url), tmp_path, BridgeLimits(), create=True)
        assert "sqlite:///bridge.db" in refused.value.mend
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_lies_below_the_home_and_an_absolute_one_does_not(tmp_path: Path) -> None:
    home = tmp_path / "home with spaces"
    home.mkdir()
    open_bridge(BridgeUrl("sqlite:///own.db"), home, BridgeLimits(), create=True).close()
    shared = BridgeUrl(f"sqlite:///{tmp_path}/shared.db")
    open_bridge(shared, home, BridgeLimits(), create=True).close()
    assert (home / "own.db").is_file() and (tmp_path / "shared.db").is_file()


def test_a_missing_store_is_not_made_by_looking(tmp_path: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(BridgeError, match="there is no bridge at") as missing:
            open_bridge(
                BridgeUrl("sqlite:///bridge.db"), tmp_path, BridgeLimits(), read_only=read_only
            )
        assert "autopoll init" in missing.value.mend
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match=r"cannot create the bridge .*No such file"):
        make(tmp_path / "none" / "bridge.db")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BridgeError, match="cannot open"):
        make(tmp_path)


def test_the_store_and_its_log_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bridge = make(tmp_path / "bridge.db")
        ask(bridge)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["bridge.db", "bridge.db-shm", "bridge.db-wal"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    bridge.close()
    bridge.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    here = str(tmp_path.resolve()).replace(" ", "\\040")
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/x rw\n2 1 0:9 / {here} rw shared:1 - nfs4 host:/x rw\n"
    )
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    with pytest.raises(BridgeError, match=r"network file system \(nfs4\)"):
        make(tmp_path / "bridge.db")
    assert not (tmp_path / "bridge.db").exists()


def test_the_mount_that_counts_is_the_deepest_and_the_last() -> None:
    table = (
        "1 0 8:1 / / rw - ext4 /dev/x rw\n"
        "2 1 0:9 / /mnt/a\\040b rw - nfs x rw\n"
        "3 1 0:9 / /mnt/twice rw - nfs x rw\n"
        "4 1 0:9 / /mnt/twice rw master:1 - xfs x rw\n"
    )
    kinds = {
        path: filesystem.file_system(Path(path), table)
        for path in ("/bridge.db", "/mnt/a b/x/bridge.db", "/mnt/twice/y", "/mnt/ab")
    }
    assert list(kinds.values()) == ["ext4", "nfs", "xfs", "ext4"]


# --- what is in it


@pytest.mark.parametrize("read_only", [True, False])
def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "bridge.db"
    make(path).close()
    set_version(path, 99)
    before = path.read_bytes()
    with pytest.raises(
        BridgeError, match=f"schema version 99, this autopoll knows {schema.KNOWN}"
    ) as new:
        SqliteBridge(path, BridgeLimits(), read_only=read_only)
    assert "Upgrade" in new.value.mend
    assert path.read_bytes() == before


def test_a_version_number_of_another_program_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    set_version(path, 1)
    with pytest.raises(BridgeError, match=r"user_version 1 but none of autopoll's tables"):
        SqliteBridge(path, BridgeLimits())


def test_a_table_of_ours_that_another_program_made_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE answers (x)")
    db.close()
    with pytest.raises(BridgeError, match="table answers already exists"):
        SqliteBridge(path, BridgeLimits())
    db = apsw.Connection(str(path))
    assert not db.table_exists(None, "deliveries") and not db.table_exists(None, "messages")
    db.close()


def test_a_legacy_file_is_adopted_with_its_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    legacy = (
        "import sys; sys.path[:0] = [sys.argv[2]]; import legacy; from pathlib import Path;"
        "it = legacy.Legacy(Path(sys.argv[1]));"
        "it.db.execute('ALTER TABLE messages ADD COLUMN colour TEXT DEFAULT 1');"
        "it.converse('conv_old'); it.insert('conv_old', 'waiting')"
    )
    tests = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", legacy, path, tests], check=True)
    before = definitions(path)
    bridge = SqliteBridge(path, BridgeLimits())
    bridge.conversations.serve("conv_old", "b", "main")
    assert answer_one(bridge) == "done"
    bridge.close()
    assert {name: definitions(path)[name] for name in before} == before


@pytest.mark.parametrize("version", range(1, schema.KNOWN))
def test_an_older_store_is_migrated_with_all_that_is_under_way(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "bridge.db"
    bridge = make(path)
    before = ask(bridge)
    assert answer_one(bridge) == "done"
    name = bridge.conversations.all()[0].id
    send(bridge, name, "a", "one", "two")
    (one,) = bridge.deliveries.claim("me", {"main": 9}, 60_000)
    own = ask(bridge)
    bridge.close()
    set_back(path, version)
    with pytest.raises(BridgeError, match=f"older schema version {version}"):
        SqliteBridge(path, BridgeLimits(), read_only=True)
    bridge = make(path)
    assert (answer := bridge.messages.query_state(before).answer) and answer.text == "because"
    usage = Usage(output_tokens=9)
    outcome = Answered(
        message_id=one.message_id, fence=one.fence, answer=Answer(text="yes"), usage=usage
    )
    for claimed in ([one.message_id + 1, own], []):
        _, settled, taken = bridge.deliveries.commit_turn([], [outcome], "me", {"main": 9}, 60_000)
        assert settled[0].state == "done"
        assert [each.message_id for each in taken] == claimed
    assert bridge.overview.spent(utc_day(wall_ms()))["main"].output_tokens == 9
    assert take_over(bridge, "next") == 2
    assert bridge.examine(60)
    bridge.close()
    db = apsw.Connection(str(path))
    with pytest.raises(apsw.ConstraintError):  # two heads of one lane
        db.execute(
            "UPDATE deliveries SET state='leased', owner='x', lease_until=1, settled_at=NULL"
        )
    db.close()


def test_a_question_without_usage_costs_no_statement_more(tmp_path: Path) -> None:
    bridge = make(tmp_path / "bridge.db")
    seen: list[str] = []
    bridge._db.driver.exec_trace = lambda _, sql, __: seen.append(sql) or True

    def settled(usage: Usage | None) -> list[str]:
        ask(bridge)
        (one,) = bridge.deliveries.claim("me", {"main": 9}, 60_000)
        seen.clear()
        answer = Answer(text="so")
        bridge.deliveries.settle(
            [Answered(message_id=one.message_id, fence=one.fence, answer=answer, usage=usage)],
            "me",
        )
        return list(seen)

    without, with_usage = settled(None), settled(Usage(output_tokens=9))
    assert not [sql for sql in without if "usage" in sql]
    shards, charge = [sql for sql in with_usage if sql not in without]
    assert shards.startswith("SELECT message_id, shard") and "INSERT INTO usage" in charge
    assert len(with_usage) == len(without) + 2
    bridge.close()


def test_looking_at_an_older_store_asks_for_migration_and_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE conversations (id)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(BridgeError, match="older schema version 0") as old:
        SqliteBridge(path, BridgeLimits(), read_only=True)
    assert "autopoll up" in old.value.mend
    assert path.read_bytes() == before


def test_looking_changes_no_byte_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    bridge = make(path)
    number = ask(bridge)
    bridge.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    bridge = SqliteBridge(path, BridgeLimits(), read_only=True)
    assert bridge.messages.query_state(number).state == "sent"
    assert len(bridge.messages.find()) == 1 and len(bridge.conversations.all()) == 1
    assert bridge.overview.counts()["done"] == 0 and bridge.overview.dead_letters() == []
    with pytest.raises(BridgeError, match="read-only"):
        ask(bridge)
    bridge.close()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    path.write_bytes(b"these are my notes\n" * 500)
    for read_only in (True, False):
        with pytest.raises(BridgeError, match="is not an SQLite database"):
            SqliteBridge(path, BridgeLimits(), read_only=read_only)
    assert path.read_bytes() == b"these are my notes\n" * 500


def test_a_damaged_database_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    bridge = make(path)
    for _ in range(50):
        ask(bridge, "x" * 1000)
    bridge.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(BridgeError, match="is damaged") as damaged:
        ask(SqliteBridge(path, BridgeLimits()))
    assert str(path) in str(damaged.value)
    assert "backup" in damaged.value.mend


# --- trouble that passes


def test_a_locked_store_is_busy_and_works_again_when_the_lock_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_handler, "BUSY_S", 0.1)
    path = tmp_path / "bridge.db"
    bridge = make(path)
    number = ask(bridge)
    locker = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
            "db.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()",
            path,
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert locker.stdout and locker.stdin
    assert locker.stdout.readline() == b"locked\n"
    for attempt in (lambda: ask(bridge), lambda: bridge.deliveries.claim("me", {"main": 1}, 1000)):
        started = time.monotonic()
        with pytest.raises(BridgeBusy, match="locked by another program") as busy:
            attempt()
        assert time.monotonic() - started >= 0.1
        assert str(path) in busy.value.what
    assert bridge.messages.query_state(number).state == "sent"
    locker.stdin.close()
    locker.wait()
    assert answer_one(bridge) == "done"
    assert bridge.messages.query_state(number).state == "done"
    bridge.close()


def test_a_store_at_the_file_size_limit_is_full_stays_readable_and_goes_on_with_room(
    tmp_path: Path,
) -> None:
    bridge = make(tmp_path / "bridge.db")
    first = ask(bridge)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400 * KIB, hard))
    try:
        sent = 0
        while more := fill(bridge):  # each refusal empties the log, which makes some room
            sent += more
        assert bridge.messages.query_state(first).state == "sent"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    go_on(bridge, sent + 1)


def test_a_full_store_refuses_takes_and_settlements_whole_and_goes_on_with_room(
    tmp_path: Path,
) -> None:
    bridge = make(tmp_path / "bridge.db")
    ask(bridge)
    (delivery,) = bridge.deliveries.claim("me", {"main": 1}, 60_000)
    # The limit of SQLite itself raises what a full disk raises, for any user on any machine.
    ((pages,),) = bridge._db.rows("PRAGMA page_count")
    bridge._db.rows(f"PRAGMA max_page_count={pages + 20}")
    sent = fill(bridge)
    answer = Answer(text="because " * 50 * KIB)
    outcome = Answered(message_id=delivery.message_id, fence=delivery.fence, answer=answer)
    with pytest.raises(BridgeFull, match="nothing was changed") as full:
        bridge.deliveries.settle([outcome], "me")
    assert "Make room" in full.value.mend
    assert bridge.messages.query_state(delivery.message_id).state == "leased"
    bridge._db.rows("PRAGMA max_page_count=1000000")
    assert [settled.state for settled in bridge.deliveries.settle([outcome], "me")] == ["done"]
    go_on(bridge, sent)


def test_a_log_that_fills_the_last_room_is_emptied_and_work_goes_on(tmp_path: Path) -> None:
    bridge = make(tmp_path / "bridge.db")
    ask(bridge)
    (delivery,) = bridge.deliveries.claim("me", {"main": 1}, 60_000)
    lease = [(delivery.message_id, delivery.fence)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400 * KIB, hard))
    try:
        with pytest.raises(BridgeFull):
            for _ in range(1000):  # each adds the same page to the log once more
                bridge.deliveries.renew(lease, "me", 60_000)
        assert bridge.deliveries.renew(lease, "me", 60_000) == {delivery.message_id}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    bridge.close()


def fill(bridge: Bridge) -> int:
    """Send until there is no room; return how many were taken."""
    for sent in range(1000):
        try:
            ask(bridge, "x" * 20 * KIB)
        except BridgeFull as full:
            assert "nothing was changed" in full.what
            return sent
    raise AssertionError("the store never got full")


def go_on(bridge: SqliteBridge, waiting: int) -> None:
    """The same connection sends and answers everything that was accepted, and nothing else."""
    ask(bridge)
    assert [answer_one(bridge) for _ in range(waiting + 1)] == ["done"] * (waiting + 1)
    assert bridge.deliveries.claim("me", {"main": 1}, 1000) == []
    assert bridge._db.rows("PRAGMA integrity_check") == [("ok",)]
    bridge.close()


def test_a_store_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    path = folder / "bridge.db"
    try:
        bridge = make(path)
        ask(bridge)
        bridge.close()
        path.chmod(0o444)
        folder.chmod(0o555)
        assert "read-only" in as_stranger(lambda: SqliteBridge(path, BridgeLimits()))
        assert "read-only" in as_stranger(
            lambda: SqliteBridge(path, BridgeLimits(), read_only=True)
        )
        assert "cannot create" in as_stranger(lambda: make(folder / "new.db"))
        path.chmod(0o000)
        assert "cannot open" in as_stranger(lambda: SqliteBridge(path, BridgeLimits()))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def as_stranger(task: Callable[[], object]) -> str:
    """Run the task in a process that is not root and return the BridgeError it ended with."""
    reader, writer = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_as_stranger, args=(task, writer))
    process.start()
    writer.close()
    said: str = reader.recv()
    process.join()
    return said


def _as_stranger(task: Callable[[], object], writer: Connection) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    try:
        task()
    except BridgeError as error:
        writer.send(str(error))
    else:
        writer.send("no error")


def test_the_log_is_cut_back_after_a_long_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WAL_LIMIT", 400 * KIB)
    path = tmp_path / "bridge.db"
    log = tmp_path / "bridge.db-wal"
    bridge = make(path)
    ask(bridge)
    bridge.deliveries.reap()
    assert log.stat().st_size > 0, "a short log is left alone"
    reader = apsw.Connection(str(path))
    rows = reader.execute("SELECT * FROM messages UNION ALL SELECT * FROM messages")
    next(rows)
    for _ in range(60):
        ask(bridge, "x" * 20 * KIB)
    assert log.stat().st_size > 1200 * KIB
    started = time.monotonic()
    bridge.deliveries.reap()
    assert time.monotonic() - started < 1, "waited for the reader"
    assert log.stat().st_size > 1200 * KIB
    rows.close()
    reader.close()
    bridge.deliveries.reap()
    ask(bridge)
    assert log.stat().st_size <= 400 * KIB
    bridge.close()


def test_a_foreign_writer_wakes_the_watch_of_a_waiting_process(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    bridge = make(path)
    watch = bridge.watch()
    bridge.changed()
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        "db.execute('INSERT INTO messages(message) VALUES(1)'); db.commit()"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert select.select([watch], [], [], 5)[0]
    assert watch.read() and bridge.changed()
    watch.close()
    with pytest.raises(BridgeError, match="closed"):
        watch.fileno()
    bridge.close()


def set_version(path: Path, number: int) -> None:
    db = apsw.Connection(str(path))
    db.pragma("user_version", number)
    db.close()


def set_back(path: Path, version: int) -> None:
    """Leave the rows of a closed store in the tables of an earlier schema version."""
    older = path.with_name("older.db")
    db = apsw.Connection(str(older))
    for step in schema.STEPS[:version]:
        db.execute(step)
    db.pragma("user_version", version)
    db.execute("ATTACH ? AS newer", (str(path),))
    tables = "SELECT name FROM main.sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'"
    for (table,) in db.execute(tables).fetchall():
        columns = ",".join(name for _, name, *_ in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM newer.{table}")
    db.close()
    older.replace(path)


def definitions(path: Path) -> dict[str, str]:
    db = apsw.Connection(str(path))
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE type='table'").fetchall()
    db.close()
    return dict(rows)


# --- taken away while it is open


def put_another(path: Path) -> None:
    make(path.with_name("backup.db")).close()
    path.with_name("backup.db").replace(path)


def remove_the_index(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def remove_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize(
    ("strike", "said"),
    [
        (put_another, "bridge.db was replaced"),
        (Path.unlink, "bridge.db was removed"),
        (remove_the_index, "bridge.db-shm was removed"),
        (remove_the_log, "bridge.db-wal was removed"),
    ],
)
def test_a_store_that_others_do_not_find_any_more_is_told(tmp_path: Path, strike, said) -> None:
    path = tmp_path / "bridge.db"
    bridge = make(path)
    ask(bridge)
    bridge.require_in_place()
    strike(path)
    with pytest.raises(BridgeError, match=said):
        bridge.require_in_place()
    bridge.close()


def test_what_other_programs_may_do_leaves_a_store_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bridge.db"
    make(path).close()
    bridge = make(path)
    for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode=DELETE"):
        ask(bridge)
        subprocess.run(
            [sys.executable, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute"
             "(sys.argv[2])", str(path), statement],
            stderr=subprocess.DEVNULL,  # the last is refused while we have it open
        )  # fmt: skip
        SqliteBridge(path, BridgeLimits(), read_only=True).close()
        bridge.require_in_place()
    bridge.close()


_TRIGGER = """CREATE TRIGGER foreign_note AFTER INSERT ON messages
  WHEN NEW.from_session IN ('a','b') BEGIN
  INSERT INTO messages(conversation_id,from_session,message,read) VALUES('x','note','noted',1);
END"""


def test_a_foreign_trigger_that_adds_messages_of_its_own_mixes_up_no_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bridge.db"
    with closing(make(path)) as bridge, closing(apsw.Connection(str(path))) as foreign:
        foreign.execute(_TRIGGER)
        conversation = bridge.conversations.create("one", "two").conversation
        bridge.conversations.serve(conversation, "b", "main")
        sent = send(bridge, conversation, "a", "1", "2", metadata=OWN)
        arrivals = [
            Arrival(
                query_id=f"q-1234567{number}",
                conversation=conversation,
                session="a",
                text=f"q-1234567{number}: how?",
                metadata='{"lane":"own"}',
                sent_at=time.monotonic(),
            )
            for number in (1, 2)
        ]
        turn = bridge.deliveries.commit_turn(arrivals, [], "me", {"main": 10}, 60_000)
        stored = [one.id for one in turn.stored if isinstance(one, SentMessage)]
        assert [each.message_id for each in turn.claimed] == sent + stored
        answers = [
            Answered(
                message_id=each.message_id,
                fence=each.fence,
                answer=Answer(text=f"to {each.message_id}"),
            )
            for each in turn.claimed
        ]
        for settled in bridge.deliveries.settle(answers, "me"):
            assert settled.state == "done"
            answer = bridge.messages.query_state(settled.message_id).answer
            assert answer
            assert f"to {settled.message_id}" in answer.text


def test_a_foreign_trigger_that_leaves_messages_out_refuses_those_and_no_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bridge.db"
    with closing(make(path)) as bridge, closing(apsw.Connection(str(path))) as foreign:
        foreign.execute(
            "CREATE TRIGGER choosy BEFORE INSERT ON messages WHEN NEW.message LIKE '%bad%'"
            " BEGIN SELECT RAISE(IGNORE); END"
        )
        conversation = bridge.conversations.create("one", "two").conversation
        with pytest.raises(RowRefused, match="trigger"):
            send(bridge, conversation, "a", "bad")
        assert bridge.messages.find() == []
        good, bad = bridge.messages.store(
            [
                Arrival(
                    query_id=f"q-1234567{number}",
                    conversation=conversation,
                    session="a",
                    text=f"q-1234567{number}: {word}",
                    sent_at=time.monotonic(),
                )
                for number, word in enumerate(("good", "bad"))
            ]
        )
        assert isinstance(good, SentMessage)
        assert isinstance(bad, RowRefused)
