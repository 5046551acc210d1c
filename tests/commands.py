"""Runs `autopoll …` in forks of a process that has imported the command line already.

Starting Python and importing costs most of what a short command costs, and the tests run thousands
of them. A fork is a process of its own all the same: with its own descriptors, folder, environment,
signals and exit code. What decides about the interpreter itself cannot be given to a fork; such a
command is started as users start it.
"""

import atexit
import gc
import json
import os
import random
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TextIO

AUTOPOLL = [sys.executable, "-m", "autopoll"]
# What is read once, when an interpreter starts.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC")
_LIGHT = ("cli", "ops", "client", "bridge", "process", "home")  # the gateway is heavy and seldom
_LATE = ("rich.table", "autopoll.backends.echo", "autopoll.backends.extract")
_REQUEST = 150_000  # bytes, of arguments and environment together


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
        self.pid = int.from_bytes(os.read(self._status, 4), "little")

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
            self.returncode = int.from_bytes(os.read(self._status, 4), "little", signed=True)
            os.close(self._status)
        return self.returncode

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
        and 6 * size < _REQUEST
    ):
        return Forked(_forker(*before), args, cwd, env, piped)
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


@cache
def _forker(*before: str) -> socket.socket:
    """Start what forks, once for every program that changes users or rights before it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [*before, sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours


# --- the process that forks


def _serve(server: socket.socket) -> None:
    """Fork for each request until the tests end; return in the child alone."""
    running: dict[int, tuple[int, int]] = {}  # pidfd -> pid, where its exit code is awaited
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not server:
                pid, status = running.pop(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(BrokenPipeError):  # nobody waited so long
                    os.write(status, code.to_bytes(4, "little", signed=True))
                selector.unregister(key.fd)
                os.close(key.fd)
                os.close(status)
                continue
            request, descriptors, _, _ = socket.recv_fds(server, _REQUEST, 4)
            if not request:
                sys.exit()
            if (pid := os.fork()) == 0:
                selector.close()
                server.close()
                _become(*json.loads(request), descriptors, running)
                return
            *theirs, status = descriptors
            os.write(status, pid.to_bytes(4, "little"))
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, status)
            selector.register(pidfd, selectors.EVENT_READ)
            for descriptor in theirs:
                os.close(descriptor)


def _become(
    args: list[str],
    cwd: str,
    environ: dict[str, str],
    descriptors: list[int],
    running: dict[int, tuple[int, int]],
) -> None:
    """Make of this fork what a new process would be."""
    for pidfd, (_, status) in running.items():
        os.close(pidfd)
        os.close(status)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.stdin, sys.stdout, sys.stderr = map(_again, (sys.stdin, sys.stdout, sys.stderr))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    random.seed()
    sys.argv = ["autopoll", *args]


def _again(stream: TextIO) -> TextIO:
    """Open a standard stream once more, for its descriptor is another file now."""
    return open(
        stream.fileno(),
        stream.mode,
        buffering=1 if stream.line_buffering else -1,
        encoding=stream.encoding,
        errors=stream.errors,
        closefd=False,
    )


def _import_all() -> None:
    for part in _LIGHT:
        package = import_module(f"autopoll.{part}")
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    for name in _LATE:
        import_module(name)


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # so that a collection in a fork does not copy all of it
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from autopoll.cli import main

    code = main()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking an interpreter apart costs more than most commands
