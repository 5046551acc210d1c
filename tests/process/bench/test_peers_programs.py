"""The programs of a turn: what is missing, what fails, and that all ends whatever happens."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from place import leaving_no_process, until

from bench.peers import __main__ as peers
from bench.peers import child, servers, usage
from bench.peers.asker import TEXT, Order, lap
from bench.peers.child import ProgramFailed, finish, has_ended, running
from bench.peers.contenders import CONTENDERS, FLOOR, Contender
from bench.peers.run import run
from bench.peers.servers import redis
from bench.peers.table import tables

ROOT = Path(__file__).parents[3]
BELOW = CONTENDERS[0]
# A floor that has to wait for a server, as peers do.
SERVED = Contender(name="RQ", app="floor_app", package="apsw", server=redis)
MAIN = """
from bench import command
from bench.peers import __main__ as peers
from bench.peers.contenders import Contender
from bench.peers.servers import redis
peers.CONTENDERS = [Contender(name="RQ", app="floor_app", package="apsw", server=redis)]
raise SystemExit(command.run(peers.main))
"""
SERVER = f"""#!{sys.executable}
import socket, sys, time
if "--version" in sys.argv:
    print("Redis server v=7.0.15 sha=0:0")
    raise SystemExit
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
listener.listen()
time.sleep(1000)
"""


@pytest.fixture
def disk(monkeypatch) -> Iterator[Path]:
    """A folder for temporary files with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def has_server(folder: Path, monkeypatch) -> None:
    """Put a program that is called as Redis is, and listens as it does, on the PATH."""
    (folder / "bin").mkdir()
    (folder / "bin" / "redis-server").write_text(SERVER)
    (folder / "bin" / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def names(processes: list[psutil.Process]) -> set[str]:
    found = set()
    for each in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            found.add(each.name())
    return found


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--scale", "nan", "is not a number from 0.001 to 10"),
        ("--rounds", "x", "is not a whole number from 1 to 100"),
        ("--only", "nobody", "there is no nobody"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_started(
    option, text, words, capsys
) -> None:
    with pytest.raises(SystemExit) as ended:
        peers.parser().parse_args([option, text])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert option in err
    assert words in err


def test_only_who_lacks_a_server_is_left_out_and_the_package_is_named(disk, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(disk))
    monkeypatch.setattr(servers, "_DEBIAN", disk)
    found = run([BELOW, SERVED], 2, 0.01, lambda _: None)
    [failure] = found.failures
    assert failure.section == "RQ"
    assert failure.reason == "redis-server is not installed (apt-get install redis-server)"
    text = tables(found)
    assert f"| RQ | left out: {failure.reason} |" in text
    assert f"| {FLOOR} |" in text
    assert list(disk.iterdir()) == []


def test_postgresql_is_found_outside_the_path_the_newest_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers, "_DEBIAN", tmp_path)
    for version in ("9", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch(mode=0o755)
    assert servers.program("initdb", "postgresql") == str(tmp_path / "16" / "bin" / "initdb")
    with pytest.raises(servers.NotInstalled, match="pg_isready is not installed"):
        servers.program("pg_isready", "postgresql")


def test_who_lacks_a_package_is_left_out_before_anything_is_started(disk) -> None:
    found = run([Contender(name="RQ", app="rq_app", package="no-such")], 1, 0.01, lambda _: None)
    assert [each.reason for each in found.failures] == [
        "no-such is not installed (make bench-peers)"
    ]
    assert found.figures == []


def test_a_turn_with_a_server_is_measured_and_leaves_nothing(disk, monkeypatch) -> None:
    has_server(disk, monkeypatch)
    said: list[str] = []
    with leaving_no_process():
        found = run([SERVED], 1, 0.01, said.append)
    assert found.failures == []
    assert {each.note for each in found.figures if each.note}.pop().endswith("Redis 7.0.15")
    assert all(each.value > 0 for each in found.figures if each.unit != "percent")
    assert said == ["RQ, round 1 of 1"]
    assert [path.name for path in disk.iterdir()] == ["bin"]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_run_that_is_ended_ends_its_server_and_its_asker(disk, monkeypatch, number) -> None:
    has_server(disk, monkeypatch)
    command = [sys.executable, "-c", MAIN, "--scale", "10", "--out", str(disk / "out")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        until(lambda: len(below(process.pid)) == 4, what="server, asker, poller and worker")
        started = below(process.pid)
        process.send_signal(signal.Signals[number])
        code = process.wait(30)
    until(lambda: all(map(has_ended, started)), 10, "all to end")
    if number == "SIGKILL":
        return
    assert code == 130
    assert [path.name for path in disk.iterdir()] == ["bin"]


def test_a_program_that_does_not_end_is_killed_with_all_that_it_started(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(child, "_PATIENCE_S", 0.2)
    stubborn = "trap '' TERM; sleep 1000 & sleep 1000 & wait; wait"
    with running(["sh", "-c", stubborn], tmp_path) as process:
        until(lambda: len(below(process.pid)) == 2)
        started = below(process.pid)
    assert process.returncode == -signal.SIGKILL
    until(lambda: all(map(has_ended, started)), what="all to end")


def test_a_program_that_fails_is_named_with_the_last_that_it_said(tmp_path) -> None:
    with pytest.raises(ProgramFailed, match="sh ended with exit code 3: no such thing"):
        finish(["sh", "-c", "echo hm; echo no such thing >&2; echo; exit 3"], tmp_path)


def test_who_fails_in_a_later_round_is_in_no_figure_and_has_no_more_turns(disk) -> None:
    turns = []

    @contextmanager
    def weak(folder: Path) -> Iterator[str]:
        turns.append(folder)
        if len(turns) == 2:
            raise ProgramFailed("it has ended", "none")
        yield "weak 1"

    contender = Contender(name="RQ", app="floor_app", package="apsw", server=weak)
    found = run([contender], 3, 0.01, lambda _: None)
    assert len(turns) == 2
    assert found.figures == []
    assert [each.reason for each in found.failures] == ["it has ended (none)"]


def test_a_server_that_ends_while_it_starts_is_not_waited_for(disk, monkeypatch) -> None:
    has_server(disk, monkeypatch)
    (disk / "bin" / "redis-server").write_text("#!/bin/sh\necho out of memory\nexit 1\n")
    [failure] = run([SERVED], 1, 0.01, lambda _: None).failures
    assert "redis-server ended with exit code 1: out of memory" in failure.reason


def test_a_wrong_answer_is_no_answer() -> None:
    order = Order(count=2, laps=1, together=False)
    assert lap(lambda texts, *, together: list(texts), order) >= 0
    with pytest.raises(AssertionError, match="some are wrong"):
        lap(lambda texts, *, together: [TEXT], order)


def test_the_processor_time_of_what_has_ended_counts_and_shared_memory_once(tmp_path) -> None:
    burn = f"{sys.executable} -c 'while __import__(\"time\").process_time() < 0.2: pass'"
    others = usage.processes()  # what other tests share
    with running(["sh", "-c", f"{burn}; sleep 1000"], tmp_path):

        def ours() -> list[psutil.Process]:
            return [each for each in usage.processes() if each not in others]

        until(lambda: "sleep" in names(ours()))
        assert usage.processor_s(ours()) > 0.19
        assert 0 < usage.memory_bytes(ours()) < 20e6
