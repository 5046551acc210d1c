"""Several homes on one bridge, and what happens to all processes of one of them at once."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from place import Place, until

LEASE_S = 3
CONFIG = """
[bridge]
url = "{url}"
[delivery]
visibility_timeout = "{lease}s"
{shards}"""


def home_on(folder: Path, url: str, shards: str, environ: dict[str, str] | None = None) -> Place:
    """Make a home that shares the bridge at `url`, with these shards; it is down."""
    place = Place(folder, None)
    place.environ |= environ or {}
    place.home.config.write_text(CONFIG.format(url=url, lease=LEASE_S, shards=shards))
    place.run("init", str(folder))
    return place


def up(places: Sequence[Place]) -> None:
    """Bring homes up side by side."""
    for place, starting in [(place, place.start("up")) for place in places]:
        out, err = starting.communicate(timeout=120)
        assert starting.returncode == 0, (place.root, out, err)


def freeze(place: Place) -> list[psutil.Process]:
    """Stop every process of a home, those started meanwhile too; return them."""
    stopped: dict[int, psutil.Process] = {}
    with suppress(FileNotFoundError, psutil.NoSuchProcess):  # it has no supervisord any more
        stopped[place.supervisord()] = psutil.Process(place.supervisord())
    _send(stopped.values(), signal.SIGSTOP)
    while new := [each for each in place.processes() if each.pid not in stopped]:
        _send(new, signal.SIGSTOP)
        stopped.update((each.pid, each) for each in new)
    return list(stopped.values())


def thaw(stopped: Sequence[psutil.Process]) -> None:
    """Let the processes go on."""
    _send(stopped, signal.SIGCONT)


def kill(place: Place) -> None:
    """Kill every process of a home at once, as a machine does that loses its power."""
    stopped = freeze(place)  # so that none notices the death of another
    _send(stopped, signal.SIGKILL)
    until(lambda: not any(map(_runs, stopped)), what="the processes to be dead")


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for each in processes:
        with suppress(ProcessLookupError):
            os.kill(each.pid, number)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
