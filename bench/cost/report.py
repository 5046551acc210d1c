"""What one run of the benchmark found, as it is written to figures.json and read back."""

import stat
from datetime import datetime
from pathlib import Path

import msgspec

from autopoll.errors import UsageError
from bench.cost.figures import Figure
from bench.cost.machine import Machine

FORMAT = 1
NAME = "figures.json"
_MEND = f"Give the {NAME} of an earlier run; this makes one: make bench"


class Failure(msgspec.Struct, frozen=True):
    """A section that did not come to its end, and why."""

    section: str
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run: on what, when, and what came of it.

    `load` is the load average of the minute before it began: what else the machine did.
    """

    format: int = FORMAT
    version: str
    machine: Machine
    started: datetime  # UTC
    seconds: float
    load: float
    scale: float
    figures: list[Figure]
    failures: list[Failure]

    def encode(self) -> bytes:
        """Return the text of the file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class _Head(msgspec.Struct):
    format: int


def read(path: Path) -> Report:
    """Return the report in a file; raise UsageError for whatever holds none that we know."""
    try:
        # What is no file, a pipe for instance, could keep us waiting for ever.
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UsageError(f"{path} is a folder, not a file of figures", _MEND)
        if not stat.S_ISREG(kind):
            raise UsageError(f"{path} is no regular file", _MEND)
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", _MEND) from error
    if not content.strip():
        raise UsageError(f"{path} is empty", _MEND)
    try:
        written = msgspec.json.decode(content, type=_Head).format
        if written > FORMAT:
            raise UsageError(
                f"{path} has format {written}, and this autopoll knows none above {FORMAT}",
                "It is from a newer autopoll: upgrade, or record figures of your own.",
            )
        return msgspec.json.decode(content, type=Report)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError(f"{path} holds no figures: {error}", _MEND) from error
