"""Programs that a run starts: each ends with the block it was started for, whatever ends that."""

import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from autopoll.cli.interrupt import undisturbed
from autopoll.errors import AutopollError
from bench.peers.apps import FOLDER

ROOT = Path(__file__).parents[2]
LOG = "log"
_PDEATHSIG = 1  # prctl(2): the signal for when the parent dies
_PATIENCE_S = 10.0
_START_S = 30.0
_STEP_S = 0.02

_libc = ctypes.CDLL(None)


class ProgramFailed(AutopollError):
    """A program of a turn did not start, ended early, or did not answer."""


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    end: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    settings: Mapping[str, str] | None = None,
    with_pipes: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the folder until the block is left; what it says goes to the log there.

    `end` is the signal by which it ends in good order, and the kernel sends it too when we are
    killed. What does not end by it is killed, with all that it has started. `settings` are added to
    its environment.
    """
    owner = pwd.getpwnam(user) if user else None
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**_environ(folder), **(settings or {})},
            stdin=subprocess.PIPE if with_pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if with_pipes else log,
            stderr=log,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=[] if owner else None,
            start_new_session=True,  # Ctrl-C is for us alone
            preexec_fn=lambda: _libc.prctl(_PDEATHSIG, end),
        )
    try:
        yield process
    finally:
        # A second Ctrl-C must not leave it running.
        with undisturbed():
            _end(process, end)


def _environ(folder: Path) -> dict[str, str]:
    """Return the environment of a turn: ours, less what is meant for another home."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AUTOPOLL_")}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, FOLDER: str(folder)}


def finish(command: Sequence[str], folder: Path, *, user: str | None = None) -> None:
    """Run a program to its end; raise ProgramFailed with what it said unless all went well."""
    with running(command, folder, user=user) as process:
        wait_until(lambda: process.poll() is not None, None, command[0], folder)
        if process.returncode:
            raise failed(command[0], f"ended with exit code {process.returncode}", folder)


def wait_until(
    condition: Callable[[], bool],
    process: subprocess.Popen[bytes] | None,
    name: str,
    folder: Path,
) -> None:
    """Return once the condition holds; raise ProgramFailed when it never will, or not in time."""
    until = time.monotonic() + _START_S
    while not condition():
        if process and process.poll() is not None:
            raise failed(name, f"ended with exit code {process.returncode}", folder)
        if time.monotonic() > until:
            raise failed(name, f"was not ready after {_START_S:.0f} s", folder)
        time.sleep(_STEP_S)


def failed(name: str, what: str, folder: Path) -> ProgramFailed:
    """Return the error of a program, with the last line of its log."""
    lines = (folder / LOG).read_text("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return ProgramFailed(f"{Path(name).name} {what}: {last}", "try it alone, with --only")


def _end(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(end)
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    until = time.monotonic() + _PATIENCE_S
    while not all(map(has_ended, children)) and time.monotonic() < until:
        time.sleep(_STEP_S)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or waits for nothing but its new parent, init, to notice."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
