"""What is kept of a process before it is killed: its stacks, and what psutil and /proc say.

The stacks come from faulthandler, which every role sets to SIGUSR1: it runs in the signal handler
itself and so shows the line even of a process that holds its interpreter lock or is deadlocked.
"""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from autopoll.clock import utc_now
from autopoll.home.home import Home
from autopoll.process import signals
from autopoll.process.heartbeat import Beat
from autopoll.process.proc_stat import catches, read_stat
from autopoll.redact.redact import redact

_KEPT = 100  # folders
_STACKS_WITHIN = 0.5
_PROC_WITHIN = 3.0


async def collect(home: Home, beat: Beat, verdict: str) -> str:
    """Save what can be seen of the process to a folder, and return the gist in a sentence.

    Takes up to half a second, or three when /proc does not answer: a process that hangs in the
    kernel can hang its readers. What cannot be seen is left out: a kill that is due must not wait.
    """
    try:
        async with asyncio.timeout(_PROC_WITHIN):
            return await asyncio.to_thread(_collect, home, beat, verdict)
    except TimeoutError:
        return f"{last_state(beat)}; /proc does not answer"


def last_state(beat: Beat) -> str:
    """Return what a process said of itself before it ended."""
    working = f" with request {beat.request_id}" if beat.request_id is not None else ""
    return f"last said to be {beat.state}{working}"


def _collect(home: Home, beat: Beat, verdict: str) -> str:
    now = time.monotonic()
    stamp = utc_now().strftime("%Y%m%dT%H%M%S.%f")[:-3]
    folder = home.evidence / f"{stamp}-{beat.name}"
    facts = _facts(beat)
    stacks = stacks_of(home.log / f"{beat.name}.stacks", beat)
    try:
        folder.mkdir(mode=0o700)
        report = {"verdict": verdict, "at": now, "beat": beat, **facts}
        (folder / "facts.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        if stacks:
            (folder / "stacks.txt").write_text(redact(stacks), encoding="utf-8")
        _forget_oldest(home.evidence, folder)
        kept = f"details in {folder.relative_to(home.root)}"
    except OSError as error:  # a full disk
        kept = f"details could not be kept: {error.strerror}"
    return "; ".join([_gist(beat, now), *_shown(facts), kept])


def _gist(beat: Beat, now: float) -> str:
    """Return what the process said of itself."""
    said = f"{beat.state}, loop beat {now - beat.loop_beat:.1f} s ago"
    if beat.request_deadline is not None and beat.request_start is not None:
        said += f", request {beat.request_id} begun {now - beat.request_start:.1f} s ago"
        late = now - beat.request_deadline
        said += f", overdue by {late:.1f} s" if late > 0 else f", due in {-late:.1f} s"
    return said


def _shown(facts: dict[str, Any]) -> list[str]:
    """Return the facts that fit a sentence."""
    shown = []
    if waits := facts.get("waits_in"):
        shown.append(f"main thread in {waits}")
    if "rss_bytes" in facts:
        shown.append(f"{facts['rss_bytes'] / 1e6:.0f} MB, {facts['fds']} fds")
    return shown


def _facts(beat: Beat) -> dict[str, Any]:
    """Return what psutil and /proc say of the process and its children."""
    try:
        # Only now, because a watchdog that has nothing to kill does without: it saves a megabyte.
        import psutil
    except (ImportError, OSError):  # the environment was taken away below a running home
        return {}
    try:
        process = psutil.Process(beat.pid)
        with process.oneshot():
            return {
                "status": process.status(),
                "waits_in": _waits_in(beat.pid),
                "rss_bytes": process.memory_info().rss,
                "fds": process.num_fds(),
                "threads": process.num_threads(),
                "cpu_s": sum(process.cpu_times()[:2]),
                "children": [
                    {"pid": child.pid, "name": child.name(), "status": child.status()}
                    for child in process.children(recursive=True)
                ],
            }
    except (psutil.Error, OSError):  # it ended, or changed its user, while we looked
        return {}


def _waits_in(pid: int) -> str:
    """Return the kernel function the main thread sleeps in; empty when it does not sleep."""
    try:
        where = Path(f"/proc/{pid}/wchan").read_text(encoding="ascii").strip()
    except OSError:  # not every kernel has it, and not every user may read it
        return ""
    return "" if where == "0" else where


def stacks_of(path: Path, beat: Beat) -> str:
    """Ask the process for the stacks of all its threads and return them; empty where it cannot say.

    It is the process that wrote the beat, or none, and goes on as before.
    """
    reading = read_stat(beat.pid)
    if reading is None or reading.stopped or reading.blocked:
        return ""  # it could not answer
    if not catches(beat.pid, signal.SIGUSR1):
        return ""  # it would die of the question
    before = _size(path)
    if not signals.send(beat.pid, beat.started, signal.SIGUSR1):
        return ""
    deadline = time.monotonic() + _STACKS_WITHIN
    seen = before
    while time.monotonic() < deadline:
        time.sleep(0.02)
        size = _size(path)
        if size > before and size == seen:  # written, and no more is coming
            break
        seen = size
    try:
        with path.open("rb") as file:
            file.seek(before)
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _forget_oldest(folder: Path, newest: Path) -> None:
    """Remove what is beyond the newest; a folder of evidence holds files and no folders."""
    entries = folder.iterdir()
    # By its name the newest is old when the clock was set back.
    others = sorted(
        each for each in entries if each.is_dir() and not each.is_symlink() and each != newest
    )
    for old in others[: 1 - _KEPT]:
        with contextlib.suppress(OSError):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
