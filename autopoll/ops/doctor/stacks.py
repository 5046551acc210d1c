"""Where the threads of a process are, without ending or slowing it down."""

import shutil
import subprocess

from autopoll.errors import AutopollError, NotFound
from autopoll.home.home import Home
from autopoll.process import heartbeat
from autopoll.redact.redact import redact
from autopoll.watchdog.evidence import stacks_of

_PY_SPY_S = 10.0


def _by_py_spy(pid: int) -> str:
    """Return what py-spy shows; nothing where it is not installed, not permitted, or hangs."""
    program = shutil.which("py-spy")
    if program is None:
        return ""
    try:
        # It stops a process to look at it, so it is asked not to.
        done = subprocess.run(
            [program, "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True,
            text=True,
            timeout=_PY_SPY_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def stacks(home: Home, name: str) -> str:
    """Return the stacks of all threads of a process: by py-spy where it is installed, else its own.

    Raises NotFound, and AutopollError where it cannot say.
    """
    known = {beat.name: beat for beat in heartbeat.read_all(home.beats)}
    beat = known.get(name)
    if beat is None or not heartbeat.is_alive(beat):
        alive = ", ".join(each for each, seen in known.items() if heartbeat.is_alive(seen))
        raise NotFound(f"no process {name} runs here", f"There are: {alive or 'none'}.")
    found = _by_py_spy(beat.pid) or stacks_of(home.log / f"{name}.stacks", beat)
    if not found:
        raise AutopollError(
            f"{name} (process {beat.pid}) does not show its stacks: it is stopped, or blocked",
            f"Install py-spy, and try again; or as root: cat /proc/{beat.pid}/stack",
        )
    return redact(found)
