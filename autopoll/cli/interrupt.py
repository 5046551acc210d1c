"""Ctrl-C: when it is let in, and what is said after it: how things are, and what to type."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autopoll.errors import AutopollError, Interrupted

if TYPE_CHECKING:
    from autopoll.home.home import Home

APPEARS_S = 2.0  # within which a supervisord that was started takes its lock
RELOADING = (
    "some of the changed settings may be taken up, and others not",
    "Complete it with: autopoll reload",
)
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let an interrupt in only when the block has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


@contextmanager
def interruptible(words: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Turn Ctrl-C into Interrupted; `words` looks at how things are now, and what is to be done."""
    try:
        yield
    except KeyboardInterrupt:
        what, mend = words()
        raise Interrupted(f"interrupted; {what}", mend) from None


def home_words(home: "Home") -> tuple[str, str]:
    """Return whether a home is up, on its way up or down, or down."""
    from autopoll.home.lock import holder_of
    from autopoll.ops.supervisord_state import SupervisordState, supervisord_state

    lock = home.supervisord_lock
    end = time.monotonic() + APPEARS_S
    while (holder := holder_of(lock)) is None and time.monotonic() < end:
        time.sleep(0.05)
    if holder is None:
        return f"{home.root} is down", "Bring it up with: autopoll up"
    state, _ = supervisord_state(home)
    if state not in (SupervisordState.RUNNING, SupervisordState.STOPPING):
        return (
            f"{home.root} is on its way up or down (supervisord is process {holder})",
            "See: autopoll status",
        )
    if state is SupervisordState.STOPPING:
        return (
            f"{home.root} goes down by itself, when what is in flight is finished",
            "Bring it up again after that, with: autopoll up",
        )
    return f"{home.root} is up, or goes on coming up", "See: autopoll status"


def process_words(home: "Home", name: str) -> tuple[str, str]:
    """Return how one process of a home stands."""
    from autopoll.home.home import socket_path
    from autopoll.process.supervisor_rpc import Supervisor

    try:
        process = Supervisor(socket_path(home)).process(name)
    except AutopollError as error:
        return error.what, error.mend
    if process.runs:
        return f"{name} runs, or goes on starting", "See: autopoll status"
    return (
        f"{name} is {process.state.lower()} and is not started again by itself",
        f"Start it with: autopoll restart {name}",
    )


def shard_words(home: "Home", name: str) -> tuple[str, str]:
    """Return whether a shard stands in the settings of a home."""
    from autopoll.home.config import load

    try:
        known = name in load(home).shards
    except AutopollError as error:
        return error.what, error.mend
    if known:
        return (
            f"shard {name} is in the settings",
            f"Complete that with: autopoll reload; or take it out: autopoll shards remove {name}",
        )
    return (
        f"shard {name} is not in the settings",
        f"Where something of it is left: autopoll shards remove {name}",
    )
