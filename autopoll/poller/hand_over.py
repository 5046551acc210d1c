"""The poller becomes its own successor: new code, and the same process at the same pipes.

A poller that drained first would leave new questions waiting for the longest answer in flight, and
one that is killed has what is in flight asked again. So for new code it becomes the program that is
installed now by exec(2). The pipes to the workers stay open, and what is in flight goes along in a
file of memory: workers notice nothing, and each answer is written under the lease it was claimed
under. What cannot be taken up is left to the leases, as after a kill.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

import msgspec

from autopoll.home import fingerprint
from autopoll.home.config import Config
from autopoll.poller.in_flight import HandedAttempts
from autopoll.process import signals
from fifo.handed_link import HandedLink

# The descriptor of the file, and all others that are handed over.
VARIABLE = "AUTOPOLL_HANDED_OVER"
FORMAT = 1  # of HandedOver; another one is not read
_TRIAL_S = 30.0
_LARGEST = 1 << 30

log = logging.getLogger(__name__)


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """What one program of the process hands to the next."""

    format: int
    ground: str  # the fingerprint of the settings under which the bridge is open
    owner: str  # of the leases
    in_flight: HandedAttempts
    links: dict[str, HandedLink]  # by worker

    @property
    def is_whole(self) -> bool:
        """Whether each attempt has a link that its answer can come by."""
        expected = {number for link in self.links.values() for number in link.session.in_flight}
        return self.in_flight.attempts.keys() <= expected


async def trouble_with_installed() -> str:
    """Return why the program that is installed now does not even begin, or nothing."""
    trial = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import autopoll.poller.poller_process",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TRIAL_S):
            _, errors = await trial.communicate()
    except TimeoutError:
        trial.kill()
        await trial.wait()
        return f"it does not start within {_TRIAL_S:.0f} s"
    if not trial.returncode:
        return ""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"it ends with {trial.returncode}"


def become_successor(handed: HandedOver) -> NoReturn:
    """Become the program that is installed now; raise OSError where that cannot be."""
    data = msgspec.msgpack.encode(handed)
    file = os.memfd_create("autopoll-handed-over", 0)  # stays open across the exec
    with open(file, "wb", closefd=False) as memory:
        memory.write(data)
    descriptors = [file]
    for link in handed.links.values():
        link.keep_open(True)
        descriptors += link.descriptors
    os.environ[VARIABLE] = ",".join(map(str, descriptors))
    signals.hold_back()  # they wait until the successor has its handlers
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line


def is_successor() -> bool:
    """Tell whether this process was another program before; until `inherited` is called."""
    return VARIABLE in os.environ


def inherited(config: Config) -> HandedOver | None:
    """Return what the program before has handed over, if this one can go on with it.

    Whatever cannot be used is closed: the workers are then met as after the death of a poller.
    """
    names = os.environ.pop(VARIABLE, None)
    if names is None:
        return None
    file, *others = map(int, names.split(","))
    try:
        handed = _read(file)
        if handed.ground != fingerprint.of_ground(config):
            raise ValueError("the settings of the bridge have changed")
    except (OSError, ValueError) as error:
        log.warning("what was handed over cannot be taken up: %s", error)
        _close(others)
        return None
    finally:
        _close([file])
    for link in handed.links.values():
        link.keep_open(False)
    return handed


def _read(file: int) -> HandedOver:
    """Return what is in the file; raise OSError, or ValueError for another format."""
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", closefd=False) as memory:
        data = memory.read(_LARGEST)
    found = msgspec.msgpack.decode(data, type=_Format).format
    if found != FORMAT:
        raise ValueError(f"it is of format {found}, and this is {FORMAT}")
    return msgspec.msgpack.decode(data, type=HandedOver)


class _Format(msgspec.Struct, frozen=True):
    format: int


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
