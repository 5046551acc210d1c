"""Runs `autopoll …` in forks of one process that has imported the command line already.

Starting Python and importing costs most of what a short command costs, and tests run thousands of
them. A fork is a process of its own all the same: with its own descriptors, folder, environment,
signals and exit code. What decides about the interpreter itself cannot be given to a fork; see
`is_fit`.
"""

import gc
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TextIO

# What is read once, when an interpreter starts.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC")
_LIGHT = ("cli", "ops", "client", "bridge", "process", "home")  # the gateway is heavy and seldom
_REQUEST = 150_000  # bytes, of arguments and environment together


class Commands:
    """The process that forks, started at the first command."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def is_fit(self, args: Sequence[str], env: Mapping[str, str]) -> bool:
        """Tell whether a fork does the same as a new interpreter would."""
        size = sum(map(len, (*args, *env, *env.values())))
        return _at_start(env) == _at_start(os.environ) and 6 * size < _REQUEST

    def run(
        self,
        args: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        input: str | None,
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as `subprocess.run` does, with its output captured as text.

        Raises subprocess.TimeoutExpired, after it has killed the command.
        """
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        status, status_theirs = os.pipe()
        stdin, ours = (os.open(os.devnull, os.O_RDONLY), None) if input is None else os.pipe()
        theirs = [stdin, out_theirs, err_theirs, status_theirs]
        request = json.dumps([list(args), str(cwd), dict(env)]).encode()
        socket.send_fds(self._server(), [request], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        pid = int.from_bytes(os.read(status, 4), "little")
        try:
            sent = b"" if input is None else input.encode()
            read = _converse({out: b"", err: b"", status: b""}, ours, sent, timeout)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(args), timeout) from None
        code = int.from_bytes(read[status], "little", signed=True)
        return subprocess.CompletedProcess(
            ["autopoll", *args], code, _text(read[out]), _text(read[err])
        )

    def _server(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        return self._socket


COMMANDS = Commands()


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_AT_START)}


def _text(data: bytes) -> str:
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _converse(
    read: dict[int, bytes], ours: int | None, sent: bytes, timeout: float
) -> dict[int, bytes]:
    """Write the input and read until the end of each descriptor, and close them all."""
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for descriptor in read:
            selector.register(descriptor, selectors.EVENT_READ)
        if ours is not None:
            os.set_blocking(ours, False)
            selector.register(ours, selectors.EVENT_WRITE)
        try:
            while selector.get_map():
                ready = selector.select(end - time.monotonic())
                if not ready and time.monotonic() >= end:
                    raise TimeoutError
                for key, _ in ready:
                    descriptor = key.fd
                    if descriptor == ours:
                        with suppress(BrokenPipeError):  # the command does not want all of it
                            sent = sent[os.write(ours, sent[:65536]) :] if sent else sent
                            if sent:
                                continue
                    elif data := os.read(descriptor, 65536):
                        read[descriptor] += data
                        continue
                    selector.unregister(descriptor)
                    os.close(descriptor)
        finally:
            for descriptor in list(selector.get_map()):
                os.close(descriptor)
    return read


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


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # so that a collection in a fork does not copy all of it
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from autopoll.cli import main

    sys.exit(main())
