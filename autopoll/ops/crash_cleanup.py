"""Clears what a crash left in a home: processes, files, and incidents without an end."""

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from autopoll.clock import wall_ms
from autopoll.home.home import Home, socket_path
from autopoll.ops import copied_home
from autopoll.process import heartbeat, incident_log, orphans
from autopoll.process.heartbeat import Beat
from autopoll.process.incident_actions import LEFT_TO_UP
from autopoll.process.incident_log import DEAD, Incident
from autopoll.process.proc_stat import boot_id
from autopoll.watchdog import evidence

STEP_S = 0.05
SUPERVISORD = "supervisord"
SHARD = "shard "  # how an incident names one

log = logging.getLogger(__name__)


def clean_up(home: Home, patience: float) -> int:
    """End what an earlier supervisord left running, empty var/run, and return how many there were.

    Deaths that no watchdog was left to record become incidents. Orphans drain by themselves when
    supervisord dies; only what outlives its drain is killed. Called with the supervisord lock held.
    """
    marker = {"AUTOPOLL_SUPERVISED": str(home.supervisord_conf.parent)}
    count = len(orphans.find(marker))
    end = time.monotonic() + patience
    while orphans.find(marker) and time.monotonic() < end:
        time.sleep(STEP_S)
    orphans.sweep(marker)
    _record_deaths(home)
    if not copied_home.is_copy(home):
        socket_path(home).unlink(missing_ok=True)
    if home.run.is_dir():
        for entry in home.run.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    return count


def close_all_incidents(home: Home) -> None:
    """Close every incident, for the home is down."""
    close_incidents(home, "the home was taken down", lambda _: True)


def close_past_incidents(home: Home, programs: Collection[str]) -> None:
    """Close the incidents of which nothing more can come; `programs` are about to be started.

    The incident of a process that died with supervisord is closed by its successor.
    """
    close_incidents(home, "the machine was restarted", lambda each: each.boot_id != boot_id())
    # An incident of a shard is a pause, which is gone with all else in var/run.
    close_incidents(home, "the home was restarted", lambda each: each.process.startswith(SHARD))
    known = {*programs, SUPERVISORD}
    close_incidents(home, "removed", lambda each: each.process not in known)


def close_incidents(home: Home, words: str, which: Callable[[Incident], bool]) -> None:
    """Close the chosen incidents that are not over; `words` say how they ended."""
    with _unless_full():
        incident_log.close(home.incidents, words, which)


def _record_deaths(home: Home) -> None:
    """Record the deaths that no watchdog was left to record."""
    if pid := _dead_supervisord(home):
        _record(home, SUPERVISORD, pid, 0, f"process {pid} is gone, and left files in {home.run}")
    for beat in heartbeat.read_all(home.beats):
        if beat.crashed:
            seen = f"found dead; {beat.name} ran again as {beat.pid}"
            _record(home, beat.name, beat.crashed, 0, seen)
        if _is_dead(beat):
            seen = f"found dead; {evidence.last_state(beat)}"
            _record(home, beat.name, beat.pid, beat.started, seen)


def _record(home: Home, name: str, pid: int, started: int, seen: str) -> None:
    with _unless_full():
        incident_log.record(
            home.incidents,
            process=name,
            verdict=DEAD,
            action=LEFT_TO_UP,
            evidence=seen,
            pid=pid,
            started=started,
        )


@contextmanager
def _unless_full() -> Iterator[None]:
    """Go on without a record where none can be written: a home on a full disk can be taken down."""
    try:
        yield
    except OSError as error:
        log.warning("the incident could not be written: %s", error)


def _is_dead(beat: Beat) -> bool:
    """Tell whether a process has ended in this boot, and not in order."""
    return beat.boot_id == boot_id() and not beat.state.is_over and not heartbeat.is_alive(beat)


def _dead_supervisord(home: Home) -> int:
    """Return the pid of a supervisord of this boot that did not end in order, or 0."""
    path = home.run / "supervisord.pid"  # which it removes at its end
    try:
        text, written = path.read_text("ascii").strip(), path.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return 0
    booted = wall_ms() / 1000 - time.clock_gettime(time.CLOCK_BOOTTIME)
    return int(text) if text.isdigit() and written > booted else 0
