"""`autopoll bridge copy`: every row of a bridge on SQLite, on a real PostgreSQL server."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from answerers import LEASE, answerer, take_over
from bridge_calls import (
    USED,
    answered,
    ask,
    claim,
    claim_one,
    costing,
    failed,
    key,
    once,
    settle,
    stored,
    talk,
)

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.cli import main
from autopoll.errors import AccessDenied, AutopollError, BridgeError, Exit
from autopoll.home.bridge_url import BridgeUrl
from autopoll.ops.bridge_copy import CopyReport, copy_bridge

EARLIER = Path(__file__).parents[2] / "data" / "earlier_home.tar.gz"
TABLES = (
    "answers", "audit_log", "budgets", "conversations", "deliveries", "denials", "keys",
    "messages", "pollers", "routes", "session_status", "usage",
)  # fmt: skip
FREED = {"state": "ready", "owner": None, "lease_until": None}

Copy = Callable[[], CopyReport]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.db"


@pytest.fixture
def copy(path: Path, database: str) -> Copy:
    return lambda: copy_bridge(BridgeUrl(f"sqlite:///{path}"), BridgeUrl(database), path.parent)


def opened(url: str, **given: Any) -> Bridge:
    return open_bridge(BridgeUrl(url), Path("/"), BridgeLimits(max_attempts=2), **given)


def on_file(path: Path) -> Bridge:
    return opened(f"sqlite:///{path}", create=True)


def run_sql(path: Path, *statements: str) -> list[Any]:
    with closing(apsw.Connection(str(path))) as db:
        # What is written stays in the log, as after kill -9.
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return [row for statement in statements for row in db.execute(statement)]


def on_server(url: str, query: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as server:
        cursor = server.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def file_rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(apsw.Connection(str(path))) as db:
        if not db.table_exists(None, table):
            return []
        names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
        return [dict(zip(names, row, strict=True)) for row in db.execute(f"SELECT * FROM {table}")]


def server_rows(url: str, table: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as server:
        cursor = server.execute(f"SELECT * FROM autopoll.{table}".encode())
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def assert_all_there(path: Path, url: str) -> None:
    """See that each row of the file is on the server, column by column, and no other."""
    for table in TABLES:
        there = server_rows(url, table)
        for row in file_rows(path, table):
            row.pop("waiter", None)
            row.pop("beat_until", None)  # none lives
            if row.get("state") == "leased":
                row |= FREED | {"attempts": row["attempts"] - 1}
            match = [each for each in there if row.items() <= each.items()]
            assert len(match) == 1, (table, row, there)
            there.remove(match[0])
        assert there == [], table


def digests(path: Path) -> dict[str, str]:
    files = (path, path.with_name(f"{path.name}-wal"))
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


@pytest.fixture
def rich(path: Path) -> Iterator[dict[str, Any]]:
    """A bridge with every kind of row, of which names are returned."""
    with closing(on_file(path)) as bridge:
        take_over(bridge)
        first, second = talk(bridge), talk(bridge, "other")
        tokens = bridge.conversations.create("alice", "bob")
        query = stored(once(bridge, first, "once", key())).id
        settle(bridge, costing(answered(claim_one(bridge), "äöü \U0001f600"), USED))
        dead = ask(bridge, first, "never")
        settle(bridge, failed(claim_one(bridge), permanent=True))
        leased, queued = ask(bridge, first, "held", "behind it")
        assert [each.message_id for each in claim(bridge)] == [leased]
        ask(bridge, second, "ready")
        claim(bridge, 0)
        bridge.conversations.set_status(first, "a", "waiting")
        bridge.conversations.audit_denial(first, "no such token")
        bridge.deliveries.take_over(answerer("you", home="1" * 32), LEASE)
        ids = {"query": query, "dead": dead[0], "leased": leased, "queued": queued}
    # It ends as by kill -9: the leases stay, and the last number was of a message that is gone.
    held = "state='leased', owner='me', lease_until=1900000000000, attempts=1"
    run_sql(
        path,
        f"UPDATE deliveries SET {held} WHERE message_id={leased}",
        "INSERT INTO messages(id, conversation_id, read) VALUES(500, 'gone', 1)",
        "DELETE FROM messages WHERE id=500",
        "INSERT INTO budgets VALUES('c', 'a', 1.25)",
    )
    return {**ids, "first": first, "second": second, "tokens": tokens}


def test_every_row_is_copied_with_its_number_and_what_was_leased_is_ready(
    path: Path, rich: dict[str, Any], copy: Copy, database: str
) -> None:
    before = digests(path)
    report = copy()
    assert digests(path) == before
    assert all(file_rows(path, table) for table in TABLES)
    assert_all_there(path, database)
    assert report.tables == {table: len(file_rows(path, table)) for table in TABLES}
    assert (report.left_out, report.not_copied, report.replaced) == ({}, [], 0)


def test_the_copy_is_asked_on(rich: dict[str, Any], copy: Copy, database: str) -> None:
    copy()
    with closing(opened(database)) as bridge:
        take_over(bridge, "new")
        delivery = claim(bridge, owner="new")
        assert [each.message_id for each in delivery] == [rich["leased"]]
        assert settle(bridge, answered(delivery[0]), "new").state == "done"
        assert not any(each.alive for each in bridge.overview.homes() if each.home == "1" * 32)
        assert [each.message_id for each in claim(bridge, owner="new")] == [rich["queued"]]
        assert bridge.messages.query_state(rich["query"]).state == "done"
        assert stored(once(bridge, rich["first"], "once", key())).id == rich["query"]
        assert [each.message_id for each in bridge.overview.dead_letters()] == [rich["dead"]]
        assert ask(bridge, rich["second"], "more")[0] > 500
        tokens = rich["tokens"]
        assert bridge.conversations.authenticate(tokens.conversation, tokens.b) == "b"
        with pytest.raises(AccessDenied):
            bridge.conversations.authenticate(tokens.conversation, "0" * 64)
        newest = talk(bridge)
        everything = [each.id for each in bridge.conversations.all()]
    assert everything == [rich["first"], rich["second"], tokens.conversation, newest]


def test_a_home_of_an_earlier_version_is_copied(tmp_path: Path, database: str) -> None:
    shutil.unpack_archive(EARLIER, tmp_path)
    path = tmp_path / "var" / "bridge.db"
    report = copy_bridge(BridgeUrl("sqlite:///var/bridge.db"), BridgeUrl(database), tmp_path)
    assert report.tables["messages"] == 14
    assert_all_there(path, database)
    with closing(opened(database)) as bridge:
        take_over(bridge)
        waiting = [*claim(bridge), *claim(bridge, shard="extra")]
        assert {each.message_id for each in waiting} == {13, 14}


def test_a_bridge_that_autopoll_was_never_in_is_copied_and_served(
    path: Path, copy: Copy, database: str
) -> None:
    run_sql(
        path,
        "CREATE TABLE conversations (id TEXT PRIMARY KEY, session_a_role TEXT)",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id TEXT,"
        " from_session TEXT, to_session TEXT, message TEXT, read INTEGER DEFAULT 0)",
        "INSERT INTO conversations VALUES('c', 'x')",
        "INSERT INTO messages VALUES(7, 'c', 'a', 'b', 'Who?', 0)",
    )
    assert copy().tables["messages"] == 1
    assert run_sql(path, "PRAGMA journal_mode") == [("delete",)]
    with closing(opened(database)) as bridge:
        take_over(bridge)
        bridge.conversations.serve("c", "b", "main")
        assert claim_one(bridge).message_id == 7


def message(text: str, number: int = 1) -> str:
    return f"INSERT INTO messages(id, message, read) VALUES({number}, {text}, 1)"


@pytest.mark.parametrize(
    ("statement", "query", "found", "replaced"),
    [
        (message("'a'||char(0)||'b'"), "SELECT message FROM autopoll.messages", "a\ufffdb", 1),
        (message("CAST(x'61ff' AS TEXT)"), "SELECT message FROM autopoll.messages", "a\ufffd", 1),
        (message("x'c3a4'"), "SELECT message FROM autopoll.messages", "ä", 0),
        (message("'\ufffd'"), "SELECT message FROM autopoll.messages", "\ufffd", 0),
        (message("NULL"), "SELECT message FROM autopoll.messages", None, 0),
        (message("x''"), "SELECT message FROM autopoll.messages", "", 0),
        (message("1.5"), "SELECT message FROM autopoll.messages", "1.5", 0),
        (message("'\\.\r\n\t\\N'"), "SELECT message FROM autopoll.messages", "\\.\r\n\t\\N", 0),
        (message("'x'", 2**63 - 1), "SELECT id FROM autopoll.messages", 2**63 - 1, 0),
        (message("'x'", -5), "SELECT id FROM autopoll.messages", -5, 0),
        (
            "INSERT INTO messages(read) VALUES('yes'),(9e18),(x'00'),(2)",
            "SELECT sum(read) FROM autopoll.messages",
            4,
            0,
        ),
        (
            "INSERT INTO messages(read) VALUES(NULL)",
            "SELECT count(*) FROM autopoll.messages WHERE read IS NULL",
            1,
            0,
        ),
        (
            "INSERT INTO session_status VALUES(CAST(x'ff' AS TEXT), 'a', 's', 1), ('c', '', 1, 2)",
            "SELECT count(*) FROM autopoll.session_status",
            2,
            1,
        ),
    ],
)
def test_odd_values_are_stored_as_autopoll_reads_them(
    path: Path, copy: Copy, database: str, statement: str, query: str, found: Any, replaced: int
) -> None:
    on_file(path).close()
    run_sql(path, statement)
    assert copy().replaced == replaced
    assert on_server(database, query) == [(found,)]


def test_conversations_that_nobody_can_name_are_left_out_and_counted(
    path: Path, copy: Copy, database: str
) -> None:
    on_file(path).close()
    odd = ["NULL", "NULL", "x'63'", "'c'", "CAST(x'ff' AS TEXT)", "CAST(x'fe' AS TEXT)", "''"]
    run_sql(path, *(f"INSERT INTO conversations(id) VALUES({each})" for each in odd))
    report = copy()
    assert (report.tables["conversations"], report.left_out) == (3, {"conversations": 4})
    kept = on_server(database, "SELECT id, number FROM autopoll.conversations ORDER BY number")
    assert [name for name, _ in kept] == ["c", "\ufffd", ""]


def test_what_other_programs_keep_in_the_file_is_named(path: Path, copy: Copy) -> None:
    on_file(path).close()
    run_sql(path, "CREATE TABLE mine (x)", "ALTER TABLE messages ADD COLUMN colour TEXT")
    assert copy().not_copied == ["messages.colour", "mine"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "there is no bridge"),
        (lambda path: (path.unlink(), path.mkdir()), "there is no bridge"),
        (lambda path: path.write_bytes(b""), "holds no bridge"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5000), "not an SQLite"),
        (lambda path: path.write_text("a letter, of more than nothing" * 99), "not an SQLite"),
        (lambda path: run_sql(path, "PRAGMA user_version=9999"), "newer schema version"),
        (lambda path: run_sql(path, "DROP TABLE messages"), "holds no bridge"),
        (
            lambda path: run_sql(path, "INSERT INTO keys VALUES(1, 's', 'n', x'', 'x', 'soon')"),
            "a row of keys cannot be copied",
        ),
        (
            lambda path: run_sql(
                path,
                "INSERT INTO messages(conversation_id)"
                f" VALUES('{random.Random(1).randbytes(5000).hex()}')",
            ),
            "a row of messages cannot be copied",
        ),
        (
            lambda path: (
                run_sql(path, "VACUUM", *(message("zeroblob(9000)", n) for n in range(1, 9))),
                path.write_bytes(path.read_bytes()[:30000]),
            ),
            "is damaged",
        ),
    ],
)
def test_a_source_that_cannot_be_copied_leaves_the_server_empty(
    path: Path, copy: Copy, database: str, spoil: Callable[[Path], object], words: str
) -> None:
    on_file(path).close()
    run_sql(path, "PRAGMA journal_mode=delete")
    spoil(path)
    with pytest.raises(AutopollError, match=words):
        copy()
    assert on_server(database, "SELECT to_regnamespace('autopoll')") == [(None,)]


def test_a_bridge_in_use_is_not_copied(path: Path, copy: Copy, database: str) -> None:
    with closing(on_file(path)) as bridge:
        take_over(bridge)
        with pytest.raises(AutopollError, match="is running already, as process"):
            copy()
    with closing(apsw.Connection(str(path))) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(AutopollError, match="another program writes into"):
            copy()
    assert on_server(database, "SELECT to_regnamespace('autopoll')") == [(None,)]


def test_nobody_writes_into_the_source_meanwhile(
    path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_file(path).close()
    refused = []

    def write(_: object) -> None:
        with pytest.raises(apsw.BusyError):
            run_sql(path, message("'late'"))
        with pytest.raises(AutopollError), closing(on_file(path)) as bridge:
            take_over(bridge)
        refused.append(True)

    monkeypatch.setattr("autopoll.bridge.postgres.bulk_import.PostgresImport.analyze", write)
    copy()
    assert refused == [True]


def test_a_target_that_is_in_use_or_not_empty_is_left_alone(
    path: Path, copy: Copy, database: str
) -> None:
    on_file(path).close()
    with closing(opened(database, create=True)) as bridge:
        take_over(bridge)
        with pytest.raises(AutopollError, match="a poller on here answers"):
            copy()
        bridge.deliveries.leave("me")
        with pytest.raises(AutopollError, match="pollers holds rows"):
            copy()
    on_server(database, "DELETE FROM autopoll.pollers")
    assert copy().tables["messages"] == 0


def test_a_role_that_only_uses_the_schema_is_told_so(path: Path, copy: Copy, database: str) -> None:
    on_file(path).close()
    opened(database, create=True).close()
    role = f"user_{random.getrandbits(32)}"
    grants = "GRANT USAGE ON SCHEMA autopoll TO {0}; GRANT ALL ON ALL TABLES IN SCHEMA autopoll TO"
    on_server(database, f"CREATE ROLE {role} LOGIN; {grants.format(role)} {role}")
    target = BridgeUrl(f"{database}&user={role}")
    try:
        with pytest.raises(AutopollError, match="may not set the sequences"):
            copy_bridge(BridgeUrl(f"sqlite:///{path}"), target, path.parent)
    finally:
        on_server(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("table", ["messages", "deliveries", "audit_log"])
def test_a_row_that_a_trigger_on_the_server_leaves_out_leaves_the_server_empty(
    path: Path, copy: Copy, database: str, table: str
) -> None:
    with closing(on_file(path)) as bridge:
        ask(bridge, talk(bridge), "one", "two")
        settle(bridge, answered(claim_one(bridge)))
    opened(database, create=True).close()
    on_server(
        database,
        "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        f"CREATE TRIGGER leave_out BEFORE INSERT ON autopoll.{table}"
        " FOR EACH ROW EXECUTE FUNCTION leave_out()",
    )
    with pytest.raises(BridgeError, match=f"{table} has .* and 0 arrived"):
        copy()
    on_server(database, f"DROP TRIGGER leave_out ON autopoll.{table}")
    assert on_server(database, "SELECT count(*) FROM autopoll.conversations") == [(0,)]
    assert copy().tables["messages"] == 3


def test_the_command_says_what_was_copied_and_what_to_do_next(
    path: Path, rich: dict[str, Any], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(path, message("'a'||char(0)", 900), "CREATE TABLE mine (x)")
    assert main(["bridge", "copy", f"sqlite:///{path}", database]) == Exit.OK
    out = capsys.readouterr().out
    assert "1 texts held NUL" in out
    assert "does not know it: mine" in out
    assert out.endswith(f'[bridge] url = "{BridgeUrl(database)}"; then: autopoll up\n')
    assert main(["bridge", "copy", f"sqlite:///{path}", database, "--json"]) == Exit.DOWN
    assert "DROP SCHEMA" in json.loads(capsys.readouterr().err)["mend"]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("postgresql://x/y", "sqlite:////x.db", "from SQLite to PostgreSQL"),
        ("sqlite:////x.db", "sqlite:////y.db", "from SQLite to PostgreSQL"),
        ("sqlite:////x.db", "postgresql://me:secret@x/y", "holds a password"),
        ("/x.db", "postgresql://x/y", "names no store"),
    ],
)
def test_wrong_usage_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # where no home is
    assert main(["bridge", "copy", source, target]) == Exit.USAGE
    err = capsys.readouterr().err
    assert words in err
    assert "secret" not in err
