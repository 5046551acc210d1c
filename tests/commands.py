"""Runs `autopoll …` in forks of a process that has imported the command line already.

Starting Python and importing costs most of what a short command costs, and the tests run thousands
of them. A fork is a process of its own all the same: with its own descriptors, folder, environment,
signals and exit code. What decides about the interpreter itself cannot be given to a fork; such a
command is started as users start it.
"""

import atexit
import json
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import forker
from forker import REQUEST

_FORKER = Path(forker.__file__)
AUTOPOLL = [sys.executable, "-m", "autopoll"]
# What is read once, when an interpreter starts.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC")
_LIGHT = ("cli", "ops", "client", "bridge", "process", "home")  # the gateway is heavy and seldom
_HEAVY = ("cli", "home", "client", "gateway")


class Forked:
    """A command in a fork, with as much of `subprocess.Popen` as the tests need."""

    def __init__(
        self, forker: socket.socket, args: list[str], cwd: Path, env: Mapping[str, str], piped: bool
    ):
        self.args = args
        self.returncode: int | None = None
        self._stdin = None
        if piped:
            stdin, self._stdin = os.pipe()
        else:
            stdin = os.open(os.devnull, os.O_RDONLY)
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        self._status, status_theirs = os.pipe()
        theirs = [stdin, out_theirs, err_theirs, status_theirs]
        socket.send_fds(forker, [json.dumps([args, str(cwd), dict(env)]).encode()], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.pid = self._read()

    def communicate(self, text: str | None = None, timeout: float = 120) -> tuple[str, str]:
        """Give it its input, read all it says, and wait for its end."""
        end = time.monotonic() + timeout
        said = {self.stdout.fileno(): b"", self.stderr.fileno(): b""}
        rest = (text or "").encode()
        with selectors.DefaultSelector() as selector:
            for descriptor in said:
                selector.register(descriptor, selectors.EVENT_READ)
            if self._stdin is not None:
                os.set_blocking(self._stdin, False)
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(max(0.0, end - time.monotonic()))
                if not ready and time.monotonic() > end:
                    raise subprocess.TimeoutExpired(self.args, timeout)
                for key, _ in ready:
                    if key.fd != self._stdin:
                        data = os.read(key.fd, 65536)
                        said[key.fd] += data
                        if not data:
                            selector.unregister(key.fd)
                        continue
                    with suppress(BrokenPipeError):  # it does not want all of it
                        rest = rest[os.write(key.fd, rest[:65536]) :] if rest else rest
                        if rest:
                            continue
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    self._stdin = None
        self.wait(max(0.0, end - time.monotonic()))
        self.stdout.close()
        self.stderr.close()
        out, err = (data.decode().replace("\r\n", "\n") for data in said.values())
        return out, err

    def wait(self, timeout: float = 120) -> int:
        """Wait for its end and return its exit code."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._read()
            os.close(self._status)
        return self.returncode

    def _read(self) -> int:
        data = os.read(self._status, 4)
        assert data, "what forks has ended"
        return int.from_bytes(data, "little", signed=True)

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)


def start(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], piped: bool = False
) -> "Forked | subprocess.Popen[str]":
    """Start a command line with pipes for what it says: in a fork, if that does the same."""
    at = len(command)
    if AUTOPOLL[-1] in command:
        at = command.index(AUTOPOLL[-1]) + 1
    before, args = list(command[: at - len(AUTOPOLL)]), list(command[at:])
    size = sum(map(len, (*args, *env, *env.values())))
    if (
        list(command[:at]) == [*before, *AUTOPOLL]
        and before[:1] in ([], ["setpriv"])
        and _at_start(env) == _at_start(os.environ)
        and 6 * size < REQUEST
    ):
        return Forked(_forker(*before).socket, args, cwd, env, piped)
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    text: str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end; it is killed when it takes too long."""
    process = start(command, cwd=cwd, env=env, piped=text is not None)
    try:
        out, err = process.communicate(text, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def environment(**names: str) -> dict[str, str]:
    """Return an environment of these names alone that a fork can have."""
    return {**_at_start(os.environ), **names}


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_AT_START)}


def for_mcp(command: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return a command line of `autopoll mcp` for an agent's program to start: through a fork, if
    that does the same, by a small program that lends its streams to it and waits for its end."""
    before, args = list(command[: len(AUTOPOLL)]), list(command[len(AUTOPOLL) :])
    if before != AUTOPOLL or _at_start(env) != _at_start(os.environ):
        return list(command)
    return [sys.executable, "-S", "-E", str(_FORKER), _forker(heavy=True).path, *args]


class _Forker(NamedTuple):
    """Where the process that forks takes requests."""

    socket: socket.socket
    path: str


@cache
def _forker(*before: str, heavy: bool = False) -> _Forker:
    """Start what forks, once for every program that changes users or rights before it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = tempfile.mkdtemp(prefix="ap-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    parts = _HEAVY if heavy else _LIGHT
    with theirs, _listening(f"{folder}/s") as listener:
        fds = [theirs.fileno(), listener.fileno()]
        subprocess.Popen(
            [*before, sys.executable, str(_FORKER), *map(str, fds), *parts],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return _Forker(ours, f"{folder}/s")


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    return listener
