"""The process that has imported the command line and forks for each command; see `commands`.

With a path in place of descriptors it is the other end: it lends its own streams to a fork.
"""

import atexit
import gc
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages
from typing import TextIO

REQUEST = 150_000  # bytes, of arguments and environment together
_LATE = ("rich.table", "autopoll.backends.echo", "autopoll.backends.extract")


def _serve(server: socket.socket, listener: socket.socket) -> None:
    """Fork for each request until the tests end; return in the child alone."""
    running: dict[int, tuple[int, int]] = {}  # pidfd -> pid, where its exit code is awaited
    selector = selectors.DefaultSelector()
    for each in (server, listener):
        selector.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd in running:
                pid, status = running.pop(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(BrokenPipeError):  # nobody waited so long
                    os.write(status, code.to_bytes(4, "little", signed=True))
                selector.unregister(key.fd)
                os.close(key.fd)
                os.close(status)
                continue
            source = listener.accept()[0] if key.fileobj is listener else server
            request, descriptors, _, _ = socket.recv_fds(source, REQUEST, 4)
            if source is not server:
                source.close()
            elif not request:
                sys.exit()
            if (pid := os.fork()) == 0:
                selector.close()
                server.close()
                listener.close()
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


def _import_all(parts: list[str]) -> None:
    for part in parts:
        package = import_module(f"autopoll.{part}")
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    for name in _LATE:
        import_module(name)


def _be_a_command(server: int, listener: int, parts: list[str]) -> None:
    _import_all(parts)
    gc.freeze()  # so that a collection in a fork does not copy all of it
    _serve(socket.socket(fileno=server), socket.socket(fileno=listener))
    from autopoll.__main__ import main

    code = main()
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking an interpreter apart costs more than most commands


def _lend(path: str, args: list[str]) -> int:
    """Have a command run in a fork with our own streams, and return its exit code."""
    status, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as forker:
        forker.connect(path)
        request = json.dumps([args, os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(forker, [request], [0, 1, 2, theirs])
        os.close(theirs)
        pid = int.from_bytes(os.read(status, 4), "little")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        for descriptor in (0, 1):  # so that who reads or writes there sees the fork end
            os.close(descriptor)
        return int.from_bytes(os.read(status, 4), "little", signed=True)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        _be_a_command(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    sys.exit(_lend(sys.argv[1], sys.argv[2:]))
