"""Small files that are there whole or not at all, whoever is killed while writing them."""

import os
import re
import stat
from pathlib import Path

_LARGEST = 1024 * 1024


def get(path: Path) -> bytes | None:
    """Return the content of a small regular file; None when there is none to be read."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not hold us
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return None
        return os.read(descriptor, min(facts.st_size, _LARGEST))  # it asks for as much memory
    finally:
        os.close(descriptor)


def put(path: Path, content: bytes, *, durable: bool = False, mode: int = 0o600) -> None:
    """Put content in a file, private unless told, by rename: a reader sees the old or the new.

    With `durable` it also outlives a power cut. Raises OSError with the old content in place.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if mode != 0o600:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(descriptor)
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Let what was made or removed in a folder outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(path: Path) -> None:
    """Remove what a killed writer of this file left; called while nobody else writes it."""
    left = re.compile(re.escape(f".{path.name}.") + r"\d+")
    for entry in path.parent.iterdir():
        if left.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
