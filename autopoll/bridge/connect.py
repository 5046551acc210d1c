"""Which engine a url names, and the bridge of a home."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from autopoll.bridge.backup_facts import BackupFacts
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeError, ConfigError
from autopoll.home.bridge_settings import whole_urls
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import Config
from autopoll.home.home import Home

if TYPE_CHECKING:
    from autopoll.bridge.postgres.bulk_import import PostgresImport
    from autopoll.bridge.protocols import Bridge
    from autopoll.bridge.sqlite.export import SqliteExport


def connect(
    home: Home, config: Config, *, create: bool = False, read_only: bool = False
) -> "Bridge":
    """Open the home's bridge under the limits of its configuration."""
    limits = BridgeLimits(
        max_attempts=config.delivery.max_attempts,
        max_message=config.delivery.max_message,
        token_lifetime_s=config.access.token_lifetime,
        rate_per_s=config.access.rate_per_second,
        rate_burst=config.access.rate_burst,
        redact=config.access.redact,
    )
    url, listen_url = whole_urls(home, config.bridge)
    return open_bridge(
        url,
        home.root,
        limits,
        create=create,
        read_only=read_only,
        listen_url=listen_url,
        backups=home.backups,
    )


def connect_when_needed(home: Home, config: Config, *, read_only: bool = False) -> "Bridge":
    """Return the home's bridge, which is opened when something of it is first wanted.

    For askers: while there is a poller they mostly want nothing of it. Raises BridgeError at once
    where its file is missing, and later where another has come in its place.
    """
    return cast("Bridge", _DeferredBridge(home, config, read_only=read_only))


class _DeferredBridge:
    """Stands for a bridge that may never be opened."""

    def __init__(self, home: Home, config: Config, *, read_only: bool) -> None:
        self._open = partial(connect, home, config, read_only=read_only)
        self._file = config.bridge.url.file(home.root)
        self._held = -1  # keeps the number of the file from being given to another one
        if self._file is None:
            return
        try:
            self._held = os.open(self._file, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            self._bridge = self._open()  # it says what is wrong

    @cached_property
    def _bridge(self) -> "Bridge":
        bridge = self._open()
        if not self._is_in_place():
            bridge.close()
            raise BridgeError(
                f"{self._file} was replaced while it was in use",
                "Take the home down before a backup is put back; what was asked is in the file that"
                " was there before.",
            )
        return bridge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)

    def _is_in_place(self) -> bool:
        if self._file is None:  # the engine knows its server
            return True
        try:
            return os.path.samestat(self._file.stat(), os.fstat(self._held))
        except OSError:
            return False

    def close(self) -> None:
        if "_bridge" in vars(self):
            self._bridge.close()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def open_bridge(
    url: BridgeUrl,
    root: Path,
    limits: BridgeLimits,
    *,
    create: bool = False,
    read_only: bool = False,
    listen_url: BridgeUrl | None = None,
    backups: Path | None = None,
) -> "Bridge":
    """Open the bridge that `url` names: `sqlite:///` and a path, relative ones below `root`, or a
    PostgreSQL server, which is listened to by `listen_url`, or else by `url` too.

    `create` makes a missing file or schema; `read_only` neither writes nor migrates. A file is
    copied into the folder `backups` before it is migrated. Raises
    ConfigError where a driver is missing and BridgeError when the store cannot be used.
    """
    # Most commands import the contract only; an engine's driver is loaded when a store is opened.
    file = url.file(root)
    if file is None:
        with _driver_needed():
            from autopoll.bridge.postgres import PostgresBridge

        listen = listen_url.full if listen_url else None
        return PostgresBridge(
            url.full, limits, create=create, read_only=read_only, listen_url=listen
        )
    from autopoll.bridge.sqlite import SqliteBridge

    return SqliteBridge(file, limits, create=create, read_only=read_only, backups=backups)


def copy_of_file(
    source: Path, target: Path, report: Callable[[str], None], *, replace: bool
) -> BackupFacts:
    """Copy a file of SQLite that is in use; see `file_copy.copy`."""
    from autopoll.bridge.sqlite.file_copy import copy

    return copy(source, target, report, replace=replace)


def put_back(backup: Path, target: Path, aside: Path, report: Callable[[str], None]) -> BackupFacts:
    """Put a copy into the place of a file of SQLite; see `file_restore.restore`."""
    from autopoll.bridge.sqlite.file_restore import restore

    return restore(backup, target, aside, report)


def server_sql(role: str) -> tuple[str, str]:
    """Return the SQL that makes the schema on a PostgreSQL server, and that lets a role use it.

    Raises ConfigError where the driver is missing.
    """
    with _driver_needed():
        from autopoll.bridge.postgres.schema import grants_sql, schema_sql

    return schema_sql(), grants_sql(role)


@contextmanager
def copy_ends(
    source: BridgeUrl, target: BridgeUrl, root: Path
) -> "Iterator[tuple[SqliteExport, PostgresImport]]":
    """Yield both ends of a copy from a file of SQLite to a PostgreSQL server.

    What was added is committed at the end of the block. Raises ConfigError where the driver is
    missing.
    """
    from autopoll.bridge.sqlite.export import SqliteExport

    with _driver_needed():
        from autopoll.bridge.postgres.bulk_import import importing

    file = source.file(root)
    assert file is not None
    with closing(SqliteExport(file)) as old, importing(target.full) as new:
        yield old, new


@contextmanager
def _driver_needed() -> Iterator[None]:
    """Raise ConfigError where the driver for PostgreSQL is missing."""
    try:
        yield
    except ImportError as error:
        if not (error.name or "psycopg").startswith("psycopg"):
            raise
        from autopoll.home.installation import extra_command

        raise ConfigError(
            "a bridge on PostgreSQL needs a package that is missing: psycopg",
            f"Run: {extra_command('postgres')}",
        ) from error
