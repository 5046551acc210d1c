"""The server that the tests start: it can be struck in every way, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import postgres_keeper
import postgres_server
import psycopg
import pytest
from place import until
from postgres_server import DatabaseServer, PostgresServer, distribution_binaries, wheel_binaries

FOUND = [each for each in (distribution_binaries(), wheel_binaries()) if each]
# What it has forked, as tests do, holds open whatever it holds open.
OWNER = """
import os, time
from postgres_server import PostgresServer
with PostgresServer() as server:
    server.freeze()
    forked = os.fork()
    if forked:
        print(server.folder, forked, flush=True)
    time.sleep(60)
"""


def segments() -> set[str]:
    """Return the numbers of all segments of shared memory."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_frozen_server_when_its_owner_is_ended(number) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "PYTHONPATH": str(Path(postgres_server.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with owner:
        assert owner.stdout
        name, forked = owner.stdout.readline().split()
        folder = Path(name)
        assert len(postgres_keeper.processes(folder)) > 3
        owner.send_signal(number)
        owner.wait(30)
    until(lambda: not folder.exists(), 30)
    os.kill(int(forked), signal.SIGKILL)
    assert postgres_keeper.processes(folder) == []


@pytest.mark.long
@pytest.mark.parametrize("binaries", FOUND)
def test_what_was_committed_outlives_every_end_of_the_server(binaries: Path) -> None:
    with PostgresServer(binaries, tcp=True) as server:
        server.run_sql("CREATE TABLE kept(number int)")
        strikes = [server.stop, lambda: server.stop("immediate"), server.kill]
        for number, strike in enumerate(strikes):
            server.run_sql("INSERT INTO kept VALUES(%s)", number)
            strike()
            with pytest.raises(psycopg.OperationalError):
                server.run_sql("SELECT 1")
            server.start()
        with psycopg.connect(server.tcp_url()) as connection:
            found = connection.execute("SELECT number FROM kept ORDER BY 1").fetchall()
        assert found == [(0,), (1,), (2,)]
        server.kill()
        lock = server.data / postgres_keeper.LOCK
        segment = lock.read_text().splitlines()[6].split()[1]
        assert segment in segments()
    assert segment not in segments()


@pytest.mark.long
def test_a_frozen_server_answers_nobody_and_a_thawed_one_all() -> None:
    with PostgresServer() as server, psycopg.connect(server.url(), autocommit=True) as connection:
        server.freeze()
        states = {
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            for pid in postgres_keeper.processes(server.folder)
        }
        assert states == {"T"}
        server.thaw()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_database_is_there_by_its_url_until_it_is_dropped(postgres: DatabaseServer) -> None:
    name = postgres.create_database()
    postgres.run_sql("CREATE TABLE there()", database=name)
    copy = postgres.create_database(template=name)
    assert postgres.run_sql("SELECT to_regclass('there')", database=copy) == [("there",)]
    with psycopg.connect(postgres.url(name)) as connected:
        postgres.drop_database(name)
        with pytest.raises(psycopg.OperationalError):
            connected.execute("SELECT 1")
    postgres.drop_database(copy)
    assert postgres.run_sql("SELECT datname FROM pg_database WHERE datname=%s", copy) == []


def test_programs_in_a_folder_that_is_closed_to_others_are_copied_with_their_libraries(
    tmp_path: Path,
) -> None:
    closed, folder = tmp_path / "closed", tmp_path / "folder"
    binaries = closed / "wheel" / "pginstall" / "bin"
    for each in (binaries / "postgres", closed / "wheel.libs" / "libpq.so"):
        each.parent.mkdir(parents=True)
        each.write_text("")
    closed.chmod(0o700)
    copied = postgres_server._within_reach(binaries, folder)
    assert copied == folder / "wheel" / "pginstall" / "bin"
    assert (copied / "postgres").exists()
    assert (folder / "wheel.libs" / "libpq.so").exists()
    assert postgres_server._within_reach(Path("/usr/bin"), folder) == Path("/usr/bin")
