"""Processes that outlived their owner, found by the marks they inherited.

A process group does not hold a child that called setsid, and a parent link ends with the parent.
The environment a process was started with stays readable in /proc until it ends.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from autopoll.process.proc_stat import read_stat
from autopoll.process.signals import NotPermitted, is_ready, open_process, send

_ROUNDS = 5  # what forks faster than it is swept is left to the next sweep


class Marked(msgspec.Struct, frozen=True):
    """A living process that carries the marks."""

    pid: int
    started: int
    command: str


def find(marks: Mapping[str, str], spare: Iterable[int] = ()) -> list[Marked]:
    """Return the living processes started with all these environment variables.

    Never ourselves, nor the pids to spare. Other users' processes cannot be read and are no
    orphans of ours.
    """
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}
    spared = {os.getpid(), *spare}
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of Paths would cost more
        if not entry.isdigit() or int(entry) in spared:
            continue
        try:
            if not wanted <= environment(int(entry)):
                continue
            reading = read_stat(int(entry))
            # Again, because the pid may have been reused before its start time was read.
            if reading is None or not wanted <= environment(int(entry)):
                continue
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        words = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
        found.append(Marked(reading.pid, reading.started, words or reading.name))
    return found


def environment(pid: int) -> set[bytes]:
    """Return what the process was started with, NAME=value each; nothing once it has ended.

    Raises OSError when it is gone meanwhile, or another user's.
    """
    # Of any thread, for a first thread that has ended has none, though others may live on.
    for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as above
        with contextlib.suppress(ProcessLookupError):
            if text := Path(f"/proc/{pid}/task/{thread}/environ").read_bytes():
                return set(text.split(b"\0"))
    return set()


def sweep(
    marks: Mapping[str, str], spare: Iterable[int] = (), *, grace: float = 5.0
) -> list[Marked]:
    """End every process with these marks and return those that would not die (state D).

    TERM, `grace` seconds, KILL; again until none is found, because they may fork meanwhile.
    """
    spared = set(spare)
    left: list[Marked] = []
    for _ in range(_ROUNDS):
        found = find(marks, spared)
        if not found:
            break
        left = end(found, grace=grace)
        spared.update(process.pid for process in left)
    return left


def end(processes: Iterable[Marked], *, grace: float = 5.0) -> list[Marked]:
    """End these very processes, TERM before KILL, and return those that would not die."""
    alive = {}
    for process in processes:
        descriptor = open_process(process.pid, process.started)
        if descriptor is not None:
            alive[descriptor] = process
    held = list(alive)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in alive.values():
                _try(process, number)
            alive = _outlast(alive, grace)
        return list(alive.values())
    finally:
        for descriptor in held:
            os.close(descriptor)


def _try(process: Marked, number: signal.Signals) -> None:
    try:
        send(process.pid, process.started, number)
        # A stopped process keeps TERM pending until it goes on.
        send(process.pid, process.started, signal.SIGCONT)
    except NotPermitted:
        return  # it changed its user; the caller sees it among those left


def _outlast(alive: dict[int, Marked], seconds: float) -> dict[int, Marked]:
    """Wait until all have ended, at most so long; return those that have not."""
    deadline = time.monotonic() + seconds
    return {
        descriptor: process
        for descriptor, process in alive.items()
        if not is_ready(descriptor, max(0.0, deadline - time.monotonic()))
    }
