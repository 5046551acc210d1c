"""Runs command lines in every bad state, one fork each, and prints what came of them.

Reads a JSON list of [command line, way] from stdin, and takes the folder of a home as an argument:
then each runs in a copy of its own. Forks have everything imported already: so many interpreters
would take minutes to start.
"""

import gc
import importlib
import json
import os
import pkgutil
import pty
import shutil
import signal
import sqlite3
import sys
import tempfile
import termios
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from autopoll.__main__ import main

PARTS = ("cli", "ops", "client", "bridge", "process", "home")
# What commands import when they are called.
LATE = ("rich.console", "rich.table", "rich.text", "autopoll.backends.echo",
        "autopoll.backends.extract", "autopoll.gateway.mcp.install", "difflib",
        "click.shell_completion")  # fmt: skip
GOOD, CLOSED, FULL, GONE = "good", "closed", "full", "gone"
# way -> what stdout and stderr are
STREAMS = {
    "good": (GOOD, GOOD),
    "closed": (CLOSED, GOOD),
    "errors closed": (GOOD, CLOSED),
    "both closed": (CLOSED, CLOSED),
    "full": (FULL, GOOD),
    "errors full": (GOOD, FULL),
    "gone": (GONE, GOOD),
    "both gone": (GONE, GONE),
}
SECONDS = 30  # that a command may take, or it hangs


def put(number: int, state: str, file: int, encoding: str) -> None:
    """Have descriptor 1 or 2 be in a state, and sys.stdout or sys.stderr as Python would set it."""
    stream = None
    if state == CLOSED:
        os.close(number)
    else:
        if state == FULL:
            file = os.open("/dev/full", os.O_WRONLY)
        elif state == GONE:
            read, file = os.pipe()
            os.close(read)
        os.dup2(file, number)
        stream = open(number, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    name = "stdout" if number == 1 else "stderr"
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def put_input(way: str) -> None:
    """Give the command an empty stdin, or none."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = None if way == "no input" else open(0, closefd=False)  # noqa: SIM115
    if way == "no input":
        os.close(0)


def press_ctrl_c(after_ms: int) -> None:
    """Have SIGINT come after a while."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, after_ms / 1000)


def become(args: list[str], way: str, out: int, err: int) -> int:
    """Be the command in this fork, and return its exit code."""
    os.setsid()  # no terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(SECONDS)
    put_input(way)
    if way == "LANG=C":
        os.environ.update(LANG="C", LC_ALL="C")
    if way == "20 columns":
        os.environ.update(TERM="xterm", NO_COLOR="1")
    streams = STREAMS.get(way, (GOOD, GOOD))
    for number, file in ((1, out), (2, err)):
        put(number, streams[number - 1], file, "ascii" if way == "LANG=C" else "utf-8")
    sys.argv = ["autopoll", *args]
    if way.startswith("Ctrl-C"):
        press_ctrl_c(int(way.split()[1]))
    try:
        code = main()
        signal.alarm(0)
        if sys.stdout is not None:
            sys.stdout.flush()  # as Python does at exit
    except KeyboardInterrupt:
        return 130  # at the very end, where Python itself ends for it
    except OSError:
        return 120  # as Python says that it failed
    return code


def run(args: list[str], way: str) -> tuple[int, str, str]:
    """Return the exit code, and what came on stdout and stderr: on a terminal, both by one way."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        master, slave = pty.openpty() if way == "20 columns" else (None, None)
        if slave is not None:
            termios.tcsetwinsize(slave, (24, 20))
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = become(
                    args, way, *((slave, slave) if slave else (out.fileno(), err.fileno()))
                )
            finally:
                os._exit(code)
        if master is not None and slave is not None:
            os.close(slave)
            reader = threading.Thread(target=drain, args=(master, out))
            reader.start()
            reader.join()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


def drain(master: int, out: Any) -> None:
    """Keep all that a terminal shows."""
    try:
        while data := os.read(master, 65536):
            out.write(data.replace(b"\r\n", b"\n"))
    except OSError:  # its other end is closed
        pass
    os.close(master)


def run_in_copy(home: Path, args: list[str], way: str) -> tuple[int, str, str, int]:
    """Run it in a copy of a home; return as well how many messages are there at the end."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "home")
        shutil.copytree(home, root)
        os.chdir(folder if way == "no home" else root)
        came = run(args, way)
        os.chdir("/")
        with closing(sqlite3.connect(root / "var" / "bridge.db")) as db:
            (count,) = db.execute("SELECT count(*) FROM messages").fetchone()
            assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    return *came, count


if __name__ == "__main__":
    given = json.load(sys.stdin)
    for part in PARTS:
        package = importlib.import_module(f"autopoll.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    gc.freeze()
    home = Path(sys.argv[1]) if sys.argv[1:] else None
    print(json.dumps([run_in_copy(home, *each) if home else run(*each) for each in given]))
