import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from place import until

from autopoll.process import orphans, signals
from autopoll.process.heartbeat import Beat, is_alive
from autopoll.process.orphans import Marked
from autopoll.process.proc_stat import boot_id, catches, read_stat

SLEEP = "import time; time.sleep(3600)"
STUBBORN = f"import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); {SLEEP}"
POLITE = (
    f"import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print(flush=True); {SLEEP}"
)
# Ends its main thread and lives on in another; what is left reads "zombie".
HEADLESS = (
    "import ctypes, threading, time\n"
    "threading.Thread(target=lambda: time.sleep(3600)).start()\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.syscall({'x86_64': 60, 'aarch64': 93}[__import__('platform').machine()], 0)\n"
)
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], **options)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield start
    for process in started:
        process.kill()
        process.wait()


def started(pid: int) -> int:
    reading = read_stat(pid)
    assert reading
    return reading.started


def test_a_signal_reaches_the_process_that_was_meant(spawn: Spawn) -> None:
    process = spawn(SLEEP)
    assert signals.send(process.pid, started(process.pid), signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize("send", [signals.send, signals.send_group])
def test_a_number_that_went_to_another_process_is_not_signalled(
    spawn: Spawn, send: Callable[[int, int, signal.Signals], bool]
) -> None:
    process = spawn(SLEEP, process_group=0)
    assert not send(process.pid, started(process.pid) - 1, signal.SIGKILL)
    assert process.poll() is None


@pytest.mark.parametrize("send", [signals.send, signals.send_group])
def test_init_ourselves_and_the_dead_are_not_signalled(
    spawn: Spawn, send: Callable[[int, int, signal.Signals], bool]
) -> None:
    gone = spawn("")
    start = started(gone.pid)
    gone.wait()
    assert not send(gone.pid, start, signal.SIGKILL)
    assert not send(os.getpid(), started(os.getpid()), signal.SIGCONT)
    for pid in (1, 0, -1):
        assert not send(pid, started(1), signal.SIGCONT)


@pytest.mark.parametrize("kernel", ["this", "before 6.9"])
def test_a_group_is_signalled_whole_and_only_if_the_process_leads_it(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    if kernel != "this":
        send = signal.pidfd_send_signal

        def old(descriptor: int, number: int, info: None, flags: int) -> None:
            if flags:
                raise OSError(22, "Invalid argument")
            send(descriptor, number, info, flags)

        monkeypatch.setattr(signal, "pidfd_send_signal", old)
    leader = spawn(SLEEP, process_group=0)
    member = spawn(SLEEP, process_group=leader.pid)
    bystander = spawn(SLEEP)
    assert signals.send_group(bystander.pid, started(bystander.pid), signal.SIGTERM)
    assert bystander.wait(30) == -signal.SIGTERM
    assert leader.poll() is None
    assert signals.send_group(leader.pid, started(leader.pid), signal.SIGTERM)
    assert leader.wait(30) == member.wait(30) == -signal.SIGTERM


def test_what_a_process_died_of_is_known_once_it_is_reaped(spawn: Spawn) -> None:
    for code, ending in (("raise SystemExit(3)", 3), ("import os; os.abort()", -signal.SIGABRT)):
        process = spawn(code)
        descriptor = signals.open_process(process.pid, started(process.pid))
        assert descriptor is not None
        assert signals.is_ready(descriptor, 10)
        assert signals.exit_status(descriptor) is None
        process.wait()
        assert signals.exit_status(descriptor) == ending
        os.close(descriptor)


def test_it_is_known_whether_a_process_would_survive_a_signal(spawn: Spawn) -> None:
    process = spawn(f"import faulthandler, sys; faulthandler.register(10); {SLEEP}")
    until(lambda: catches(process.pid, signal.SIGUSR1))
    assert not catches(process.pid, signal.SIGUSR2)


def beat_of(process: subprocess.Popen[bytes]) -> Beat:
    return Beat(
        name="x",
        role="worker",
        pid=process.pid,
        started=started(process.pid),
        boot_id=boot_id(),
    )


def test_a_zombie_is_not_alive_but_a_process_whose_main_thread_ended_is(spawn: Spawn) -> None:
    zombie, headless = spawn(""), spawn(HEADLESS)
    for process in (zombie, headless):
        until(lambda pid=process.pid: (v := read_stat(pid)) and v.state == "Z")
    assert not is_alive(beat_of(zombie))
    assert is_alive(beat_of(headless))
    headless.kill()
    until(lambda: not is_alive(beat_of(headless)))


def test_another_boot_or_another_start_time_is_another_process(spawn: Spawn) -> None:
    process = spawn(SLEEP)
    beat = beat_of(process)
    assert is_alive(beat)
    for other in ({"boot_id": "other"}, {"started": beat.started + 1}, {"pid": 2**22 + 1}):
        fields = {name: getattr(beat, name) for name in ("pid", "started", "boot_id")}
        assert not is_alive(Beat(name="x", role="worker", **{**fields, **other}))


# --- orphans


def marked(pid: int) -> Marked:
    return Marked(pid, started(pid), "")


def test_marked_processes_are_found_whatever_their_parent_is(spawn: Spawn, tmp_path: Path) -> None:
    marks = {"AUTOPOLL_TEST": str(tmp_path), "AUTOPOLL_OTHER": "1"}
    env = {**os.environ, **marks}
    child = spawn(SLEEP, env=env)
    pid_file = tmp_path / "pid"
    daemon = (
        "import os, sys, time\n"
        "if os.fork(): sys.exit()\n"
        "os.setsid()\n"
        f"open({str(pid_file)!r}, 'w').write(f'{{os.getpid()}} ')\n"
        "time.sleep(3600)\n"
    )
    spawn(daemon, env=env).wait()
    spawn(SLEEP, env={**env, "AUTOPOLL_TEST": f"{tmp_path}x"})
    spawn(SLEEP, env={**env, "AUTOPOLL_OTHER": "11"})
    orphan = int(until(lambda: pid_file.exists() and pid_file.read_text()))
    until(lambda: {each.pid for each in orphans.find(marks)} == {child.pid, orphan})
    assert [each.pid for each in orphans.find(marks, spare=[orphan])] == [child.pid]
    assert orphans.sweep(marks) == []
    assert orphans.find(marks) == []
    assert not Path(f"/proc/{orphan}/cmdline").exists() or read_stat(orphan).state in "ZX"  # type: ignore[union-attr]


def test_what_ignores_term_or_is_stopped_is_ended_all_the_same(
    spawn: Spawn, tmp_path: Path
) -> None:
    marks = {"AUTOPOLL_TEST": str(tmp_path)}
    env = {**os.environ, **marks}
    stubborn = spawn(STUBBORN, env=env, stdout=subprocess.PIPE)
    stopped = spawn(POLITE, env=env, stdout=subprocess.PIPE)
    for process in (stubborn, stopped):
        assert process.stdout and process.stdout.readline()
        process.stdout.close()
    stopped.send_signal(signal.SIGSTOP)
    until(lambda: (v := read_stat(stopped.pid)) and v.stopped)
    begun = time.monotonic()
    assert orphans.sweep(marks, grace=1) == []
    assert time.monotonic() - begun < 30
    assert stubborn.wait(30) == -signal.SIGKILL
    assert stopped.wait(30) == 7  # it was given the time to say goodbye


def test_an_orphan_that_lives_in_other_threads_than_its_first_is_found_and_ended(
    spawn: Spawn, tmp_path: Path
) -> None:
    marks = {"AUTOPOLL_SUPERVISED": str(tmp_path)}
    orphan = spawn(HEADLESS, env=marks)
    until(lambda: (reading := read_stat(orphan.pid)) and reading.state == "Z")
    [found] = orphans.find(marks)
    assert found.pid == orphan.pid
    assert orphans.end([found], grace=1.0) == []
    assert orphan.poll() is not None
    assert orphans.find(marks) == []


def test_a_number_that_goes_to_a_stranger_while_it_is_looked_at_is_not_found(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = {"AUTOPOLL_SUPERVISED": str(tmp_path)}
    orphan = spawn(SLEEP, env=marks)
    until(lambda: orphans.find(marks))
    environments = iter([{f"AUTOPOLL_SUPERVISED={tmp_path}".encode()}, {b"HOME=/"}])
    monkeypatch.setattr(os, "listdir", lambda _: [str(orphan.pid)])
    monkeypatch.setattr(orphans, "environment", lambda _: next(environments))
    assert orphans.find(marks) == []


def test_a_stranger_under_a_dead_orphans_number_is_spared(spawn: Spawn) -> None:
    stranger = spawn(SLEEP)
    gone = Marked(stranger.pid, started(stranger.pid) - 1, "")
    assert orphans.end([gone], grace=0.2) == []
    assert stranger.poll() is None
    assert orphans.end([marked(stranger.pid)], grace=1) == []
    assert stranger.wait(30) == -signal.SIGTERM
