"""Forgets by hand what is old, beside a home that runs or without it, and gives back its room."""

import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.retention_protocol import PrunedRows, RetentionStore, SweepPlace, ages_of
from autopoll.errors import BridgeBusy, BridgeFull
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.home.lock import holder_of
from autopoll.home.retention_settings import KeptFor, RetentionSection
from autopoll.process.old_files import OldFiles, remove_old_files

_MOST = 100  # things that a step removes; another writer waits for it for some milliseconds
_WORTH = 1 << 20  # bytes that the file must lose to be rewritten, and a tenth of it
_SHORT = 16_000_000  # bytes that are rewritten while a poller waits, for it gives up after 2 s


class PruneReport(msgspec.Struct, kw_only=True):
    """What was removed, or would be; sizes in bytes.

    `text_bytes` are those of questions and messages. `free_bytes` of the file hold nothing and are
    used again; `freed_bytes` went back to the disk; `problem` says why no more did. A server's own
    files are not looked at.
    """

    dry_run: bool
    removed: PrunedRows
    files: OldFiles
    database_bytes: int = 0
    free_bytes: int = 0
    freed_bytes: int = 0
    is_up: bool = False
    problem: str = ""


def kept_for(seconds: float, *, foreign: bool) -> RetentionSection:
    """Return the settings by which all that is older than so many seconds goes."""
    age = KeptFor(seconds)
    forever = RetentionSection().foreign
    return RetentionSection(
        answered=age,
        canaries=age,
        audit=age,
        incidents=age,
        logs=age,
        foreign=age if foreign else forever,
    )


def prune(
    home: Home,
    config: Config,
    kept: RetentionSection,
    report: Callable[[str], None],
    *,
    dry_run: bool = False,
) -> PruneReport:
    """Remove what is older than it is `kept` for, and rewrite a file that is much too large then.

    While the home is up only a small file is rewritten, as questions wait for that. Whoever is
    interrupted has removed some of it, each thing whole. Raises BridgeError.
    """
    files = remove_old_files(home, config, kept.incidents, kept.logs, dry_run=dry_run)
    with closing(connect(home, config, read_only=dry_run)) as bridge:
        removed = _sweep(bridge, kept, report, dry_run=dry_run)
        done = PruneReport(dry_run=dry_run, removed=removed, files=files)
        done.is_up = holder_of(home.supervisord_lock) is not None
        store = bridge.retention
        before = store.used_bytes() + store.free_bytes()
        if not dry_run and _is_worth_a_rewrite(store, is_up=done.is_up):
            report("rewriting the database")
            try:
                store.rewrite()
            except (BridgeBusy, BridgeFull) as error:  # what is old is gone all the same
                done.problem = error.what
        done.free_bytes = store.free_bytes()
        done.database_bytes = store.used_bytes() + done.free_bytes
        done.freed_bytes = max(0, before - done.database_bytes)
    return done


def _sweep(
    bridge: Bridge, kept: RetentionSection, report: Callable[[str], None], *, dry_run: bool
) -> PrunedRows:
    removed, ages = PrunedRows(), ages_of(kept)
    place: SweepPlace | None = SweepPlace()
    while place is not None:
        begun = time.monotonic()
        step, place = bridge.retention.sweep(ages, place, _MOST, dry_run=dry_run)
        removed.add(step)
        report(f"{'looking' if dry_run else 'removing'}: {removed.rows:,} so far")
        if step.rows and not dry_run:
            time.sleep(time.monotonic() - begun)  # others want to write, too
    return removed


def _is_worth_a_rewrite(store: RetentionStore, *, is_up: bool) -> bool:
    free, used = store.free_bytes(), store.used_bytes()
    return free >= _WORTH and free * 10 >= free + used and (not is_up or used <= _SHORT)
