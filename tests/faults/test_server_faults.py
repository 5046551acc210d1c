"""Whole homes whose PostgreSQL server is behind a pooler, is held up, or has a full disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from bridge_calls import ask, talk
from hosts import LEASE_S, home_on, up
from pgbouncer import PgBouncer
from place import answers_to, until
from postgres_server import PostgresServer

pytestmark = pytest.mark.long

ECHO = '[shards.{}]\nbackend = "echo"\n'
HELD_FOR = (
    "SELECT extract(epoch FROM clock_timestamp()-xact_start) FROM pg_stat_activity WHERE pid=%s"
)
# In a namespace of its own, with which its small file system ends.
FILLS_THE_LOG = """
import subprocess, sys
from contextlib import ExitStack, closing
from pathlib import Path
import psycopg, pytest
from hosts import home_on
from place import answers_to, until
from postgres_server import PostgresServer

with ExitStack() as stack:
    server = stack.enter_context(PostgresServer(tcp=True, max_wal_size="4MB", min_wal_size="2MB"))
    server.stop()
    log, kept = server.data / "pg_wal", server.folder / "kept"
    owner = log.stat()
    log.rename(kept)
    log.mkdir()
    small = f"size=16m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", small, "tmpfs", log], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", log], check=True)
    subprocess.run(["cp", "-a", f"{kept}/.", log], check=True)
    server.start()
    shard = '[shards.main]\\nbackend = "echo"\\n[shards.main.options]\\ndelay = "2s"\\n'
    place = home_on(Path(sys.argv[1]), server.tcp_url(), shard)
    stack.callback(place.close)
    place.run("up")
    pids = {name: place.pid(name) for name in ("poller", "worker", "watchdog")}
    asked = place.ask("in flight?", "--no-wait")["id"]
    place.busy("worker")
    filler = log / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(psycopg.Error):  # it writes no log any more, and so it ends
        server.run_sql("CREATE TABLE large AS SELECT repeat('x', 99) FROM generate_series(1,1<<20)")
    poller = place.home.log / "poller.log"
    until(lambda: "the bridge cannot be used, trying again" in poller.read_text(), 60)
    filler.unlink()
    server.kill()
    server.start()
    answered = place.json("answer", str(asked), "--timeout", "60")
    assert answered["status"] == "answered", answered
    assert place.ask("and now?", "--timeout", "60")["status"] == "answered"
    with closing(place.bridge()) as bridge:
        conversation = bridge.messages.query_state(asked).conversation
        assert answers_to(bridge.messages.find(conversation=conversation)).count(asked) == 1
    assert {name: place.pid(name) for name in pids} == pids
    print("worked on")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(tcp=True) as started:
        yield started


def test_homes_that_reach_the_server_through_a_pooler_answer_for_each_other(
    server: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "pooler").mkdir()
    with ExitStack() as stack:
        pooler = stack.enter_context(PgBouncer(server, tmp_path / "pooler"))
        url = server.tcp_url(server.create_database(), pooler.port)
        one, two = places = [home_on(tmp_path / name, url, ECHO.format("main")) for name in "ab"]
        two.home.config.write_text(two.home.config.read_text() + ECHO.format("other"))
        for place in places:
            stack.callback(place.close)
        up(places)
        for number in range(8):  # beyond the number after which a driver prepares a statement
            assert one.ask(f"here {number}?")["answer"] == f"here {number}?"
            there = one.ask(f"there {number}?", "--shard", "other")
            assert (there["status"], there["answer"]) == ("answered", f"there {number}?")
        for place in places:
            assert [each["alive"] for each in place.json_lines("hosts")] == [True, True]
            assert place.json("status")["ready"]
        assert "is a pooler" in (one.home.log / "poller.log").read_text()


def test_while_a_transaction_is_held_open_for_long_questions_are_answered_and_none_is_passed_over(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.tcp_url(server.create_database())
    with ExitStack() as stack:
        place = home_on(tmp_path / "home", url, ECHO.format("main"))
        stack.callback(place.close)
        place.run("up")
        bridge = stack.enter_context(closing(place.bridge()))
        conversation = talk(bridge)
        [before] = ask(bridge, conversation, "before?")
        until(lambda: bridge.messages.query_state(before).state == "done")
        with psycopg.connect(url) as other:
            [held] = other.execute(
                "INSERT INTO autopoll.messages(conversation_id, from_session, to_session, message)"
                " VALUES(%s, 'a', 'b', 'held?') RETURNING id",
                [conversation],
            ).fetchone() or [0]
            later: list[int] = []
            while server.run_sql(HELD_FOR, other.info.backend_pid)[0][0] < 3 * LEASE_S:
                later.append(place.ask("meanwhile?")["id"])
                assert max(later) > held
                shown = bridge.messages.find(after=before, limit=1000)
                assert not [each for each in shown if each.id > held], "it would be passed over"
            assert place.json("status")["ready"]
            assert [each["alive"] for each in place.json_lines("hosts")] == [True]
        until(lambda: bridge.messages.query_state(held).state == "done", 30)
        shown = [each.id for each in bridge.messages.find(after=before, kind="query", limit=1000)]
        assert [each for each in shown if each in later] == later
        found = bridge.messages.find(conversation=conversation, after=before)
        assert held in {each.id for each in found}
        assert answers_to(found) == [before, held]


# Only root may mount a file system.
def test_a_home_goes_on_when_the_log_of_its_server_had_no_room_and_has_it_again(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", FILLS_THE_LOG, str(tmp_path / "home")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "worked on\n", done.stderr
