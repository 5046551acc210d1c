"""What is looked at: what each process holds, and how large the files are."""

import contextlib
from pathlib import Path

import msgspec
import psutil

from autopoll.home.home import Home
from autopoll.process import heartbeat


class Held(msgspec.Struct, frozen=True):
    """What one process holds."""

    pid: int
    rss: int  # bytes
    fds: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One window of the soak, as it was at its end; `restarting` if a restart fell into it."""

    asked: int
    seconds: float
    p50_ms: float
    p99_ms: float
    log: int  # bytes of the write-ahead log, the most in the window
    database: int  # bytes; grows with what is kept, and is not judged
    restarting: bool
    held: dict[str, Held]


def look(home: Home) -> dict[str, Held]:
    """Return what each long-lived process holds, of those that live at this moment."""
    pids = {
        beat.name: beat.pid for beat in heartbeat.read_all(home.beats) if heartbeat.is_alive(beat)
    }
    # While everything is restarted the file is not there, or not written yet.
    with contextlib.suppress(FileNotFoundError, ValueError):
        pids["supervisord"] = int((home.run / "supervisord.pid").read_text())
    found = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[name] = Held(pid, process.memory_info().rss, process.num_fds())
    return found


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
