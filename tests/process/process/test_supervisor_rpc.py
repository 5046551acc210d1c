"""The client of supervisord, and what the watchdog makes of its programs: a real supervisord."""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import until
from watched_home import DUMMY, WATCHDOG, WatchedHome, is_stopped, stop

from autopoll.errors import NotFound, SupervisorError
from autopoll.process import supervisor_rpc
from autopoll.process.supervisor_rpc import Program, Supervisor

pytestmark = pytest.mark.early

CONF = f"""
[unix_http_server]
file = %(here)s/../var/run/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
pidfile = %(here)s/../var/run/supervisord.pid
logfile = %(here)s/../var/log/supervisord.log
[program:watchdog]
command = {sys.executable} {WATCHDOG} %(here)s/..
[program:worker]
command = {sys.executable} {DUMMY} %(here)s/.. worker turn
startsecs = 0
[program:stopped]
command = {sys.executable} {DUMMY} %(here)s/.. stopped turn
startsecs = 0
[program:broken]
directory = %(here)s/..
command = /bin/sh -c "test -e mended && exec {sys.executable} {DUMMY} . broken turn"
startsecs = 1
startretries = 0
[program:gone]
directory = %(here)s/..
command = /bin/sh -c "test -e mended && exec {sys.executable} {DUMMY} . gone turn; exit 1"
startsecs = 0
autorestart = false
[program:misconfigured]
directory = %(here)s/..
command = /bin/sh -c "date >>misconfigured.starts; exit 78"
startsecs = 0
exitcodes = 78
"""


@pytest.fixture(scope="module")
def home() -> Iterator[WatchedHome]:
    with (
        tempfile.TemporaryDirectory() as folder,
        WatchedHome(Path(folder) / "home", CONF) as watched,
    ):
        supervisord = watched.start(
            "-m", "supervisor.supervisord", "-n", "-s", "-c", str(watched.home.supervisord_conf)
        )
        try:
            for name in ("watchdog", "worker", "stopped"):
                until(lambda name=name: (b := watched.beat(name)) and b.ready_at)
            yield watched
        finally:
            supervisord.send_signal(signal.SIGCONT)
            supervisord.terminate()
            supervisord.wait(20)


@pytest.fixture
def client(home: WatchedHome) -> Supervisor:
    return Supervisor(home.home.run / "s.sock")


def program(client: Supervisor, name: str) -> Program:
    return next(each for each in client.processes() if each.name == name)


def test_programs_are_listed_with_their_state(home: WatchedHome, client: Supervisor) -> None:
    worker = program(client, "worker")
    beat = home.beat("worker")
    assert beat
    assert (worker.state, worker.pid, worker.full_name) == ("RUNNING", beat.pid, "worker:worker")
    assert worker == client.process("worker") or worker.now <= client.process("worker").now
    assert client.state() == "RUNNING"
    assert client.pid() == home.processes[0].pid


def test_stopping_the_stopped_and_starting_the_running_is_no_error(client: Supervisor) -> None:
    client.start("worker")
    client.stop("stopped", wait=True)
    client.stop("stopped")
    assert program(client, "stopped").state == "STOPPED"


def test_an_unknown_program_is_named(client: Supervisor) -> None:
    for call in (client.start, client.stop, client.process, client.restart):
        with pytest.raises(NotFound, match="'nobody'"):
            call("nobody")


def test_groups_are_added_and_removed_without_touching_the_others(
    home: WatchedHome, client: Supervisor
) -> None:
    conf = home.home.supervisord_conf
    before = program(client, "worker").pid
    conf.write_text(CONF + "[program:extra]\ncommand = /bin/sleep 3600\nstartsecs = 0\n")
    assert client.reload_config().added == ["extra"]
    client.add_group("extra")
    client.add_group("extra")
    until(lambda: program(client, "extra").state == "RUNNING")
    conf.write_text(CONF)
    assert client.reload_config().removed == ["extra"]
    with pytest.raises(SupervisorError, match="STILL_RUNNING"):
        client.remove_group("extra")
    client.stop_group("extra", wait=True)
    client.remove_group("extra")
    assert "extra" not in [each.name for each in client.processes()]
    assert program(client, "worker").pid == before


def test_a_signal_is_passed_on(home: WatchedHome, client: Supervisor) -> None:
    client.signal("worker", "USR1")
    until(lambda: (home.home.log / "worker.stacks").stat().st_size > 0)


def test_a_restart_gives_a_new_process(home: WatchedHome, client: Supervisor) -> None:
    before = program(client, "worker").pid
    client.restart("worker")
    until(lambda: (b := home.beat("worker")) and b.pid != before and b.ready_at)
    assert home.incidents("worker") == []


@pytest.mark.long
def test_what_supervisord_has_given_up_is_started_again_and_what_is_down_on_purpose_is_not(
    home: WatchedHome, client: Supervisor
) -> None:
    client.stop("stopped", wait=True)
    until(lambda: program(client, "broken").state == "FATAL")
    until(lambda: program(client, "misconfigured").state == "EXITED")
    (home.home.root / "mended").touch()
    for name in ("broken", "gone"):
        until(lambda name=name: (b := home.beat(name)) and b.ready_at, 30)
        incident = home.incident(name, "dead")
        assert incident.action == "started again"
        assert "given it up" in incident.evidence
        until(lambda name=name: home.incidents(name)[0].recovered_ms is not None)
    home.turns("watchdog", 3)
    assert program(client, "stopped").state == "STOPPED"
    assert home.incidents("stopped") == []
    assert program(client, "misconfigured").state == "EXITED"
    assert len((home.home.root / "misconfigured.starts").read_text().splitlines()) == 1


def test_a_killed_program_is_back_by_itself_and_the_incident_closed(
    home: WatchedHome, client: Supervisor
) -> None:
    worker = program(client, "worker").pid
    os.kill(worker, signal.SIGKILL)
    until(lambda: home.incidents("worker") and home.incidents("worker")[-1].recovered_ms)
    assert program(client, "worker").pid != worker
    assert [each.verdict for each in home.incidents("worker")] == ["dead"]


@pytest.mark.long
def test_a_stopped_supervisord_is_sent_on_its_way_once_and_then_reported(home: WatchedHome) -> None:
    supervisord, worker = home.processes[0], home.beat("worker")
    stop(supervisord)
    until(lambda: not is_stopped(supervisord.pid))
    until(lambda: home.incidents("supervisord")[0].recovered_ms is not None)

    stop(supervisord)
    assert worker
    os.kill(worker.pid, signal.SIGKILL)  # so that it is asked at once
    begun = time.monotonic()
    with pytest.raises(SupervisorError) as hung:
        Supervisor(home.home.run / "s.sock", timeout=0.3).processes()
    assert hung.value.hung
    assert time.monotonic() - begun < 30
    home.incident("supervisord", "supervisor-hung", 30)
    home.turns("watchdog", 2)
    assert is_stopped(supervisord.pid)

    supervisord.send_signal(signal.SIGCONT)
    until(lambda: home.incidents("worker")[-1].recovered_ms)
    until(lambda: all(i.recovered_ms is not None for i in home.incidents("supervisord")), 30)
    seen = [(each.verdict, each.action) for each in home.incidents("supervisord")]
    assert seen == [("stopped", "continued"), ("supervisor-hung", "reported")]


# --- what is no supervisord


def test_a_supervisord_that_is_not_there_is_down_and_not_hung(tmp_path: Path) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    for path in (tmp_path / "none.sock", dead):
        with pytest.raises(SupervisorError, match="not running") as down:
            Supervisor(path).processes()
        assert not down.value.hung


@pytest.mark.parametrize(
    "reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>"]
)
def test_another_program_on_the_socket_is_a_clear_error(tmp_path: Path, reply: bytes) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SupervisorError) as error:
            Supervisor(path).processes()
        assert not error.value.hung
        thread.join()


def test_a_listener_that_never_accepts_is_hung(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(SupervisorError) as error:
            Supervisor(path, timeout=0.2).processes()
        assert error.value.hung


class Stopping(Supervisor):
    """supervisord while somebody else has it stop a program; `answers` are its next states."""

    def __init__(self, *answers: str | SupervisorError) -> None:
        super().__init__(Path("s.sock"))
        self.answers = list(answers)
        self.started: list[str] = []

    def stop(self, name: str, wait: bool = False) -> None:
        pass

    def start(self, name: str, wait: bool = False) -> None:
        self.started.append(name)

    def process(self, name: str) -> Program:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, SupervisorError):
            raise answer
        return Program(
            name=name, group=name, state=answer, pid=0, start=0, stop=0, now=0, exitstatus=0,
            spawnerr="", description="",
        )  # fmt: skip


def test_a_restart_waits_for_a_supervisord_that_is_only_slow() -> None:
    slow = SupervisorError("it does not answer", hung=True)
    client = Stopping("STOPPING", slow, "STOPPING", "STOPPED")
    client.restart("worker")
    assert client.started == ["worker"]


def test_a_restart_says_what_to_type_when_the_program_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor_rpc, "_PATIENCE", 0.1)
    client = Stopping("STOPPING")
    with pytest.raises(SupervisorError, match="still stopping worker") as raised:
        client.restart("worker")
    assert raised.value.mend.endswith("autopoll restart worker")
    assert client.started == []


@pytest.mark.parametrize("hung", [True, False])
def test_a_restart_ends_when_supervisord_is_hung_or_gone(
    monkeypatch: pytest.MonkeyPatch, hung: bool
) -> None:
    monkeypatch.setattr(supervisor_rpc, "_PATIENCE", 0.1 if hung else 60.0)
    client = Stopping(SupervisorError("it does not answer", hung=hung))
    with pytest.raises(SupervisorError, match="does not answer"):
        client.restart("worker")
    assert client.started == []
