"""How much room the disks of a home had, once an hour; `disk_forecast` draws a line through it."""

import logging
import os
from pathlib import Path

import msgspec

from autopoll.clock import wall_ms
from autopoll.home import files
from autopoll.home.config import Config
from autopoll.home.home import Home

EVERY_MS = 3_600_000
_KEPT_MS = 30 * 24 * EVERY_MS

log = logging.getLogger(__name__)


class DiskSample(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are free, by folder, and those of the bridge's files (None on a server)."""

    at: int  # ms since the epoch
    free: dict[str, int]
    bridge: int | None = None


def written_folders(home: Home, config: Config) -> list[Path]:
    """Return the folders that a home writes into."""
    file = config.bridge.url.file(home.root)
    return list(dict.fromkeys((home.var, file.parent if file else home.var)))


def read(home: Home) -> list[DiskSample]:
    """Return what is kept, oldest first; nothing where the file is missing or garbled."""
    kept = files.get(home.disk_samples)
    try:
        return msgspec.json.decode(kept or b"[]", type=list[DiskSample])
    except msgspec.MsgspecError:
        return []


def take(home: Home, config: Config) -> DiskSample:
    """Return how it is now. Raises OSError."""
    free = {}
    for folder in written_folders(home, config):
        facts = os.statvfs(folder)
        free[str(folder)] = facts.f_bavail * facts.f_frsize
    file = config.bridge.url.file(home.root)
    sizes = [_size(f"{file}{end}") for end in ("", "-wal")] if file else [None]
    return DiskSample(at=wall_ms(), free=free, bridge=sum(filter(None, sizes)) if file else None)


def add_due(home: Home, config: Config) -> None:
    """Keep a sample, unless the last is younger than an hour; on a full disk it is lost."""
    kept, now = read(home), wall_ms()
    # One of the future is of a clock that was set back.
    kept = [each for each in kept if now - _KEPT_MS <= each.at <= now]
    if kept and now - kept[-1].at < EVERY_MS:
        return
    try:
        kept.append(take(home, config))
        files.put(home.disk_samples, msgspec.json.encode(kept))
    except OSError as error:
        log.info("no sample of the disk is kept: %s", error.strerror)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - text, of which an end was added
    except OSError:
        return 0
