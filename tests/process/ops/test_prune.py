"""Forgetting what is old: by the poller beside a stream of questions, and by hand."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from place import ECHO, Place, until

SHORT = f'{ECHO}\n[retention]\nanswered = "300ms"\ncanaries = "1s"\naudit = "1s"\n'


def rows(place: Place, table: str, where: str = "TRUE") -> int:
    with closing(apsw.Connection(str(place.home.var / "bridge.db"))) as db:
        db.set_busy_timeout(5000)
        [(number,)] = db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchall()
    return int(number)


def fill(place: Place, count: int, size: int) -> None:
    """Put old answered questions into the bridge, as earlier months have left them."""
    with closing(apsw.Connection(str(place.home.var / "bridge.db"))) as db:
        db.set_busy_timeout(5000)
        db.execute("BEGIN IMMEDIATE")
        number = "WITH RECURSIVE n(i) AS (SELECT 1000000 UNION ALL SELECT i+1 FROM n WHERE i<?)"
        last = (1_000_000 + count - 1,)
        for first, state in ((0, "a"), (1_000_000, "b")):
            db.execute(
                "INSERT INTO messages(id,conversation_id,from_session,to_session,message,read,"
                f"timestamp) {number} SELECT i+{first},'conv_old','{state}','x',"
                f"hex(zeroblob({size})),0,'2020-01-01T00:00:00' FROM n",
                last,
            )
        db.execute("UPDATE messages SET read=1 WHERE id<2000000 AND conversation_id='conv_old'")
        db.execute(
            "INSERT INTO deliveries(message_id,conversation_id,to_session,shard,lane,state,"
            f"enrolled_at,changed_at,settled_at) {number} SELECT i,'conv_old','b','main','m'||i,"
            "'done',1,1,1 FROM n",
            last,
        )
        db.execute(f"INSERT INTO answers {number} SELECT i,i+1000000,1 FROM n", last)
        db.execute("COMMIT")


@pytest.fixture
def place(new_place) -> Iterator[Place]:
    return new_place(SHORT)


@pytest.mark.long
def test_the_poller_forgets_beside_a_stream_of_questions_and_each_is_answered(
    place: Place,
) -> None:
    fill(place, 300, 100)
    with place.running():
        end = time.monotonic() + 120
        asked = 0
        while rows(place, "messages", "conversation_id='conv_old'"):
            assert time.monotonic() < end, "what is old is still there"
            asked += 1
            assert place.ask(f"question {asked}")["answer"] == f"question {asked}"
        assert asked
        until(lambda: rows(place, "deliveries", "conversation_id='conv_old'") == 0)
        assert rows(place, "answers", "query_id>=1000000 AND query_id<2000000") == 0
    log = (place.home.log / "poller.log").read_text()
    assert "trace" not in log
    with closing(place.bridge()) as bridge:
        assert bridge.overview.counts()["dead"] == 0


@pytest.mark.long
def test_new_settings_of_retention_are_taken_up_without_a_restart(new_place) -> None:
    place = new_place()
    fill(place, 5, 100)
    with closing(apsw.Connection(str(place.home.var / "bridge.db"))) as db:
        db.execute(f"UPDATE deliveries SET settled_at={time.time_ns() // 1_000_000 - 60_000}")
    with place.running():
        pid = place.pid("poller")
        assert rows(place, "deliveries") == 5
        (place.root / "autopoll.toml").write_text(SHORT)
        place.run("reload")
        until(lambda: rows(place, "deliveries") == 0)
        assert place.pid("poller") == pid


@pytest.mark.long
@pytest.mark.parametrize("is_up", [True, False])
def test_a_file_that_held_much_becomes_small_again(new_place, is_up: bool) -> None:
    place = new_place(f'{ECHO}\n[retention]\nanswered = "forever"\n')
    file = place.home.var / "bridge.db"
    fill(place, 4000, 1000)
    with place.running():
        if not is_up:
            place.down()
        before = file.stat().st_size
        assert before > 15_000_000
        dry = place.json("prune", "--older-than", "30d", "--dry-run")
        assert dry["dry_run"]
        assert dry["removed"]["questions"] == 4000
        assert dry["removed"]["text_bytes"] == 16_000_000
        assert rows(place, "answers") == 4000
        done = place.json("prune", "--older-than", "30d")
        assert done["removed"] == dry["removed"]
        assert done["is_up"] is is_up
        until(lambda: file.stat().st_size < 1_000_000, 10, "the file to shrink")
        assert done["freed_bytes"] > 14_000_000
        assert rows(place, "answers") == 0
        if is_up:
            assert place.ask("still there?")["answer"] == "still there?"
            place.down()
    wal = Path(f"{file}-wal")
    assert not wal.exists() or wal.stat().st_size == 0
    with closing(apsw.Connection(str(file))) as db:
        assert db.pragma("integrity_check") == "ok"


@pytest.mark.long
def test_health_and_the_check_of_a_shard_leave_nothing_behind(new_place) -> None:
    place = new_place()
    with place.running():
        tables = ("messages", "deliveries", "answers", "audit_log", "keys", "usage")
        before = {table: rows(place, table) for table in tables}
        for _ in range(3):
            place.run("health", "--deep")
        place.run("shards", "test", "main")
        assert {table: rows(place, table) for table in tables} == before
        status = place.json("status")
        assert status["latency_ms"] == {"p50": None, "p99": None}
        assert status["queue"]["done"] == 0


def test_old_incidents_evidence_and_logs_of_nobody_go_and_the_others_stay(new_place) -> None:
    place = new_place()
    log, old = place.home.log, time.time() - 40 * 86400
    place.home.make_private()
    incident = '{{"at":"{}","process":"p","verdict":"dead","action":"a","evidence":"e","id":"{}"}}'
    lines = [
        incident.format("2020-01-01T00:00:00.000Z", "one"),
        '{"id":"one","recovered_ms":5}',
        "not JSON",
        incident.format("2126-01-01T00:00:00.000Z", "two"),
        '{"id":"two","recovered_ms":7}',
    ]
    place.home.incidents.write_text("\n".join(lines))
    for name in ("20200101T000000.000-worker", "21260101T000000.000-worker", "notes"):
        (place.home.evidence / name).mkdir()
        (place.home.evidence / name / "facts.json").write_text("{}")
    stays = ("poller.log", "worker.stacks", "supervisord.log", "notes.txt", "incidents.jsonl")
    goes = ("poller.log.1", "worker-gone-1.log", "worker-gone-1.stderr", "worker-gone-1.stacks")
    for name in (*stays, *goes):
        path = log / name
        path.touch()
        os.utime(path, (old, old))
    (log / "watchdog.log.1").touch()
    dry = place.json("prune", "--older-than", "30d", "--dry-run")
    assert (dry["files"]["incidents"], dry["files"]["log_files"]) == (1, len(goes))
    assert place.json("prune")["files"] == dry["files"]
    assert not any((log / name).exists() for name in goes)
    assert all((log / name).exists() for name in (*stays, "watchdog.log.1"))
    assert [each.name for each in sorted(place.home.evidence.iterdir())] == [
        "21260101T000000.000-worker",
        "notes",
    ]
    [left] = place.json_lines("incidents")
    assert (left["at"], left["recovered_ms"]) == ("2126-01-01T00:00:00.000Z", 7)
    assert place.json("prune")["files"]["incidents"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--older-than", "90"], "not a duration"),
        (["--older-than", "-1d"], "not a duration"),
        (["--older-than", "1000y"], "not a duration"),
        (["--older-than", "11000d"], "not a duration"),
        (["--older-than", "\x1b[31m1d"], "not a duration"),
        (["--older-than", ""], "not a duration"),
        (["--older-than"], "requires an argument"),
        (["--foreign"], "needs an age"),
        (["everything"], "unexpected extra argument"),
    ],
)
def test_an_age_that_is_none_is_refused(new_place, arguments: list[str], words: str) -> None:
    done = new_place().run("prune", *arguments, code=4)
    assert words in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.long
def test_a_home_on_a_server_is_pruned_as_well(new_place, database: str) -> None:
    place = new_place(f'{ECHO}\n[bridge]\nurl = "{database}"\n')
    with place.running():
        place.ask("one")
        place.run("health", "--deep")
        dry = place.json("prune", "--older-than", "0s", "--dry-run")
        done = place.json("prune", "--older-than", "0s", "--yes")
        assert dry["removed"] == done["removed"]
        assert (done["removed"]["questions"], done["removed"]["canaries"]) == (1, 0)
        assert (done["database_bytes"], done["freed_bytes"]) == (0, 0)
        assert place.ask("two")["answer"] == "two"


def test_answers_of_this_day_do_not_go_without_a_yes(new_place) -> None:
    place = new_place()
    with place.running():
        place.ask("one")
    done = place.run("prune", "--older-than", "23h", code=4)
    assert "somebody may still fetch" in done.stderr
    assert "--yes" in done.stderr
    assert place.json("prune", "--older-than", "0s", "--dry-run")["removed"]["questions"] == 1
    assert place.json("prune", "--older-than", "24h")["removed"]["questions"] == 0
    assert place.json("prune", "--older-than", "0s", "--yes")["removed"]["questions"] == 1
