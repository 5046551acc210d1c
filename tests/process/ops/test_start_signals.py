"""No signal is lost while supervisord and its programs start."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from place import Place, until

# A child between fork and exec, as long as it takes, with supervisord's handlers in its parent.
FORKED = """
import os, signal, sys
from pathlib import Path
from autopoll.home.home import Home
from autopoll.ops.supervisord import SupervisordOptions
from autopoll.process.service_notice import ServiceNotice
options = SupervisordOptions(Home(Path(sys.argv[1])), ServiceNotice())
options.setsignals()
pid = options.fork()
if pid == 0:
    while True:
        signal.pause()
os.kill(pid, getattr(signal, sys.argv[2]))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.kill(os.getpid(), signal.SIGTERM)
print(signal.SIGTERM in (options.get_signal(), options.get_signal()))  # one may be SIGCHLD
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"])
def test_a_signal_between_fork_and_exec_ends_the_child(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path), name],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout.split() == [str(-getattr(signal, name)), "True"], done.stderr


def foreground(place: Place, **more: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*place.command, "up", "--foreground"],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more},  # type: ignore[call-overload]
    )


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_sent_to_supervisord_before_it_listens_is_heard(new_place, number) -> None:
    place = new_place()
    process = foreground(place)
    until(lambda: "autopoll.ops.supervisord" in command_of(process.pid))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == f"{place.root} is down"
    assert not place.processes()


@pytest.mark.long
def test_the_home_ends_at_once_when_told_to_just_after_its_programs_were_started(
    new_place,
) -> None:
    place = new_place()
    process = foreground(place)
    assert process.stdout
    for line in process.stdout:
        if "spawned: 'poller'" in line:
            break
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "SIGKILL" not in said, "as supervisord does after 30 s"
    assert place.json_lines("incidents") == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_home_ends_within_seconds_whenever_it_is_told_to(new_place, number) -> None:
    place = new_place()
    for step in range(0, 3000, 300):
        process = foreground(place)
        time.sleep(step / 1000)  # what is tried here
        process.send_signal(number)
        said, _ = process.communicate(timeout=100)
        assert "SIGKILL" not in said, f"told to end after {step} ms"
        assert not place.processes()


@pytest.mark.parametrize("role", ["poller", "worker", "watchdog"])
def test_a_program_told_to_end_while_it_starts_ends_in_order(new_place, role: str) -> None:
    """From its first heartbeat on, by which others know it, no signal takes it by surprise."""
    place = new_place()
    for number in (signal.SIGTERM, signal.SIGHUP) if role == "poller" else (signal.SIGTERM,):
        process = subprocess.Popen(
            [*place.command, role, "--home", "."],
            cwd=place.root,
            env=place.environ,
            stdin=subprocess.DEVNULL,
        )
        until(lambda process=process: (b := place.beat(role)) and b.pid == process.pid)
        process.send_signal(number)
        if number == signal.SIGHUP:
            until(lambda: "took up new settings" in (place.home.log / "poller.log").read_text())
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
