"""`up --foreground`, as containers and systemd run it: its output, which nobody need read."""

import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from place import ECHO, Place, until


def foreground(place: Place, stdout: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*place.command, "up", "--foreground"],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_the_foreground_tells_a_line_for_each_change_and_ps_shows_the_home(new_place) -> None:
    place = new_place(name="a home")
    with (place.root / "out").open("w") as out:
        process = foreground(place, out.fileno())

    def lines() -> list[str]:
        return (place.root / "out").read_text().splitlines()

    until(lambda: "ready: main" in lines(), 60)
    assert lines()[0] == f"starting {place.root}"
    assert place.supervisord() == process.pid
    for each in place.processes():
        words = each.cmdline()
        assert words[words.index("--home") + 1] == str(place.root)
    worker = place.kill("worker")
    until(lambda: any(line.startswith("incident: worker, dead: works again") for line in lines()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stderr and process.stderr.read() == ""
    assert not place.processes()
    told = lines()
    for part in (
        "spawned: 'worker' with pid",
        "exited: worker (terminated by SIGKILL; not expected)",
        "incident: worker, dead, left to supervisord: ",
        "received SIGTERM indicating exit request",
        "stopped: poller (exit status 0)",
    ):
        assert any(part in line for line in told), (part, worker, told)
    assert told[-1] == f"{place.root} is down"


@pytest.mark.long
def test_the_foreground_tells_json_where_the_settings_say_so(new_place) -> None:
    place = new_place(ECHO + '[logging]\nformat = "json"\n')
    with (place.root / "out").open("w") as out:
        process = foreground(place, out.fileno())

    def lines() -> list[dict[str, str]]:
        text = (place.root / "out").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1:] == "\n"]

    until(lambda: any(line["message"] == "ready: main" for line in lines()), 60)
    place.kill("worker")
    until(lambda: any("works again" in line["message"] for line in lines()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert {tuple(line) for line in lines()} == {("at", "level", "process", "message")}
    assert ("worker", "warning") in {(line["process"], line["level"]) for line in lines()}


@pytest.mark.long
def test_output_that_nobody_reads_holds_up_nothing(new_place) -> None:
    place = new_place()
    near, far = os.pipe()
    fcntl.fcntl(far, fcntl.F_SETPIPE_SZ, 4096)
    os.write(far, b"x" * 4096)  # its reader has stopped, and it is full
    process = foreground(place, far)
    os.close(far)
    place.ready("poller", "watchdog", "worker")
    worker = place.kill("worker")
    until(lambda: (beat := place.beat("worker")) and beat.pid != worker, 60)
    assert place.ask("still there?")["answer"] == "still there?"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    os.close(near)


@pytest.mark.long
def test_a_reader_that_has_gone_and_a_closed_stdout_hold_up_nothing(new_place) -> None:
    place = new_place()
    near, far = os.pipe()
    process = foreground(place, far)
    os.close(far)
    os.close(near)
    place.ready("poller", "watchdog", "worker")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    closed = subprocess.Popen(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *place.command, "up", "--foreground"],
        cwd=place.root,
        env=place.environ,
    )
    place.ready("poller", "watchdog", "worker")
    opened = {file.fd: file.path for file in psutil.Process(closed.pid).open_files()}
    assert not opened.keys() & {0, 1, 2}, "no log and no lock where stdout should be"
    assert place.ask("there?")["answer"] == "there?"
    closed.send_signal(signal.SIGTERM)
    assert closed.wait(60) == 0


def test_what_is_wrong_before_the_start_is_told_on_stderr(new_place) -> None:
    place = new_place()
    (place.root / "autopoll.toml").write_text("[shards.main]\nbackend = 'nonsense'\n")
    done = place.run("up", "--foreground", code=4)
    assert done.stdout == ""
    assert "nonsense" in done.stderr
    assert not Path(place.home.run / "supervisord.pid").exists()
