"""A copy of a bridge that is killed in the middle leaves nothing behind."""

import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from bridge_calls import ask
from commands import AUTOPOLL
from place import until

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.home.bridge_url import BridgeUrl

TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace=to_regnamespace('autopoll') AND relkind='r'"
)
# The copy waits in the middle for a lock that the test holds: messages are stored, routes are not.
GATE = """CREATE FUNCTION autopoll.wait() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END';
CREATE TRIGGER gate BEFORE INSERT ON autopoll.routes
  FOR EACH ROW EXECUTE FUNCTION autopoll.wait()"""
LIMITS = BridgeLimits(rate_burst=10_000)
WAITING = """SELECT pid FROM pg_locks JOIN pg_database d ON d.oid=database
  WHERE locktype='advisory' AND NOT granted AND datname=current_database()"""
LIVES = "SELECT 1 FROM pg_stat_activity WHERE pid=%s"


@pytest.fixture
def source(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'bridge.db'}"
    with closing(open_bridge(BridgeUrl(url), tmp_path, LIMITS, create=True)) as bridge:
        conversation = bridge.conversations.create("x", "y").conversation
        bridge.conversations.serve(conversation, "b", "main")
        ask(bridge, conversation, *(f"Question {n}?" for n in range(5000)))
    return url


@pytest.mark.long
def test_a_copy_that_is_killed_leaves_the_server_empty_and_may_be_begun_again(
    source: str, database: str
) -> None:
    open_bridge(BridgeUrl(database), Path("/"), LIMITS, create=True).close()
    with psycopg.connect(database, autocommit=True) as server:
        server.execute(GATE)
        server.execute("SELECT pg_advisory_lock(1)")
        command = [*AUTOPOLL, "bridge", "copy", source, database]
        running = subprocess.Popen(command, stderr=subprocess.PIPE)
        (pid,) = until(lambda: server.execute(WAITING).fetchone())
        running.kill()
        running.communicate()
        server.execute("SELECT pg_advisory_unlock(1)")
        until(lambda: not server.execute(LIVES, (pid,)).fetchone())
        for (table,) in server.execute(TABLES).fetchall():
            rows = server.execute(f"SELECT count(*) FROM autopoll.{table}").fetchall()
            assert rows == [(1 if table == "schema" else 0,)], table
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert server.execute("SELECT count(*) FROM autopoll.messages").fetchall() == [(5000,)]
