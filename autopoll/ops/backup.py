"""A copy of the bridge while it is in use, and one put back."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec

from autopoll.bridge.backup_facts import BackupFacts
from autopoll.bridge.connect import copy_of_file, put_back
from autopoll.clock import utc_now
from autopoll.errors import AlreadyRunning, NotFound, UsageError
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.home.lock import holder_of
from autopoll.ops.change_lock import changing

RESTORE = "autopoll restore"

Report = Callable[[str], None]


class BackupReport(msgspec.Struct, kw_only=True):
    """What was copied, and what else of the home is to be kept beside it."""

    file: str
    holds: BackupFacts
    not_in_it: list[str]


class RestoreReport(msgspec.Struct, kw_only=True):
    """What was put back; `kept` is the bridge that was there before, None for none."""

    file: str
    holds: BackupFacts
    bridge: str
    kept: str | None


def back_up(
    home: Home, config: Config, target: Path, report: Report, *, replace: bool
) -> BackupReport:
    """Copy the bridge to a file, whole and private; nobody who writes into it waits for that.

    Raises BridgeError, BridgeFull, and UsageError for a bridge on a server.
    """
    command = "pg_dump --format=custom --schema=autopoll"
    source = _file(home, config, f"{command} --file={_quoted(target)} {_server(config)}")
    if not source.is_file():
        raise NotFound(f"there is no bridge at {source}", "Create it with: autopoll init")
    _require_other(target, source)
    holds = copy_of_file(source, target, report, replace=replace)
    return BackupReport(file=str(target), holds=holds, not_in_it=_beside_the_bridge(home))


def restore(home: Home, config: Config, backup: Path, report: Report) -> RestoreReport:
    """Put a copy into the place of the bridge of a home that is down.

    Raises AlreadyRunning while it is up, and BridgeError with everything as it was.
    """
    command = "pg_restore --clean --if-exists --schema=autopoll"
    target = _file(home, config, f"{command} --dbname={_server(config)} {_quoted(backup)}")
    _require_other(backup, target)
    with changing(home, RESTORE, report):
        holder = holder_of(home.supervisord_lock)
        if holder:
            raise AlreadyRunning(
                f"{home.root} is up (supervisord is process {holder})",
                "Take it down first, with: autopoll down",
            )
        stamp = utc_now().strftime("%Y%m%dT%H%M%S%fZ")
        aside = target.with_name(f"{target.name}.before-{stamp}")
        holds = put_back(backup, target, aside, report)
    kept = str(aside) if aside.exists() else None
    return RestoreReport(file=str(backup), holds=holds, bridge=str(target), kept=kept)


def _file(home: Home, config: Config, command: str) -> Path:
    """Return the file of the bridge; raise UsageError, with the command to use, for a server."""
    file = config.bridge.url.file(home.root)
    if file is None:
        raise UsageError("the bridge is on a PostgreSQL server", f"Use its own tools: {command}")
    return file.resolve()


def _server(config: Config) -> str:
    return shlex.quote(str(config.bridge.url))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _require_other(path: Path, bridge: Path) -> None:
    if os.path.realpath(path) in {f"{bridge}{end}" for end in ("", "-wal", "-shm")}:
        raise UsageError(f"{path} is the bridge itself", "Name another file.")


def _beside_the_bridge(home: Home) -> list[str]:
    parts = (home.config, home.shard_files, home.supervisord_conf, home.credentials)
    return [str(part) for part in (*parts, home.operator_token) if part.exists()]
