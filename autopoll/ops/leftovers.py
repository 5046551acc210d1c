"""What a violent death has left in a home: processes, files, and incidents without an end."""

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from autopoll.clock import wall_ms
from autopoll.home.home import Home, socket_path
from autopoll.ops import copied
from autopoll.process import heartbeat, incident_log, orphans
from autopoll.process.actions import LEFT_TO_UP
from autopoll.process.heartbeat import Beat
from autopoll.process.incident_log import DEAD, Incident
from autopoll.process.proc_stat import boot_id
from autopoll.watchdog import evidence

STEP_S = 0.05
SUPERVISORD = "supervisord"
SHARD = "shard "  # how an incident names one

log = logging.getLogger(__name__)


def clear(home: Home, patience: float) -> int:
    """End what an earlier supervisord left running, empty var/run, and return how many there were.

    Deaths that nobody was left to see become incidents. Orphans drain by themselves when
    supervisord dies; only what outlives its drain is killed.
    Called under the home's lock.
    """
    marker = {"AUTOPOLL_SUPERVISED": str(home.supervisord_conf.parent)}
    count = len(orphans.find(marker))
    end = time.monotonic() + patience
    while orphans.find(marker) and time.monotonic() < end:
        time.sleep(STEP_S)
    orphans.sweep(marker)
    _note_deaths(home)
    if not copied.is_copy(home):
        socket_path(home).unlink(missing_ok=True)
    if home.run.is_dir():
        for entry in home.run.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    return count


def close_all(home: Home) -> None:
    """Put an end to every incident, for the home is down."""
    close(home, "the home was taken down", lambda _: True)


def close_past(home: Home, programs: Collection[str]) -> None:
    """Put an end to the incidents of which nothing more can come; the programs are to be started.

    Of a process that died with supervisord, its successor is the end.
    """
    close(home, "the machine was started anew", lambda each: each.boot_id != boot_id())
    # Of a shard it is a pause, which is forgotten with all else in var/run.
    close(home, "the home was started anew", lambda each: each.process.startswith(SHARD))
    known = {*programs, SUPERVISORD}
    close(home, "removed", lambda each: each.process not in known)


def close(home: Home, words: str, which: Callable[[Incident], bool]) -> None:
    """Put an end, in words, to the incidents that are not over."""
    with _unless_full():
        incident_log.close(home.incidents, words, which)


def _note_deaths(home: Home) -> None:
    """Record the deaths that nobody was left to see."""
    if pid := _dead_supervisord(home):
        _note(home, SUPERVISORD, pid, 0, f"process {pid} is gone, and left files in {home.run}")
    for beat in heartbeat.read_all(home.beats):
        if beat.crashed:
            seen = f"found dead; {beat.name} ran again as {beat.pid}"
            _note(home, beat.name, beat.crashed, 0, seen)
        if _is_dead(beat):
            seen = f"found dead; {evidence.last_words(beat)}"
            _note(home, beat.name, beat.pid, beat.started, seen)


def _note(home: Home, name: str, pid: int, started: int, seen: str) -> None:
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
    """Tell whether a process has ended in this boot, and not because it was told to."""
    mine = beat.boot_id == boot_id()
    return mine and not beat.state.is_over and not heartbeat.is_alive(beat)


def _dead_supervisord(home: Home) -> int:
    """Return the pid of a supervisord of this boot that did not end in order, or 0."""
    path = home.run / "supervisord.pid"  # which it removes at its end
    try:
        text, written = path.read_text("ascii").strip(), path.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return 0
    booted = wall_ms() / 1000 - time.clock_gettime(time.CLOCK_BOOTTIME)
    return int(text) if text.isdigit() and written > booted else 0
