"""The restarts in the middle of the soak: each process by supervisorctl, then all of them."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from autopoll.errors import Down
from autopoll.home.home import Home

EVERYTHING = "everything"
# At which share of the soak; supervisord goes down with everything.
PLAN = ((0.46, "poller"), (0.48, "worker"), (0.50, "watchdog"), (0.52, EVERYTHING))
PATIENCE_S = 60.0

Pids = Callable[[], Mapping[str, int]]


class Done(msgspec.Struct, frozen=True):
    """One restart: of what, after how many questions, and how long it took (s)."""

    name: str
    asked: int
    seconds: float


class Restarts:
    """One restart after the other, while questions go on being asked."""

    def __init__(self, home: Home, pids: Pids) -> None:
        self.done: list[Done] = []
        self._home = home
        self._pids = pids
        self._ahead = list(PLAN)
        self._child: subprocess.Popen[str] | None = None
        self._before: Mapping[str, int] = {}
        self._began = (0, 0.0)

    @property
    def are_over(self) -> bool:
        """Whether all have been done."""
        return not self._ahead

    @property
    def is_under_way(self) -> bool:
        """Whether something is being restarted."""
        return self._child is not None

    def step(self, share: float, asked: int) -> None:
        """Begin what is due at this share of the soak, and see whether it is done.

        Raises Down when a restart fails or leaves an old process in place.
        """
        if self._child is not None:
            self._look()
        elif self._ahead and share >= self._ahead[0][0]:
            self._before, self._began = self._pids(), (asked, time.monotonic())
            self._child = self._start(self._ahead[0][1])

    def wait(self) -> None:
        """Wait for a restart under way: a half-started home cannot be taken down for good."""
        if self._child is not None:
            self._child.communicate()

    def _look(self) -> None:
        assert self._child is not None
        name = self._ahead[0][1]
        asked, began = self._began
        code = self._child.poll()
        now = self._pids()
        wanted = self._before.keys() if name == EVERYTHING else {name}
        if code == 0 and all(now.get(each) not in (None, self._before[each]) for each in wanted):
            self._child.communicate()
            self._child = None
            self._ahead.pop(0)
            self.done.append(Done(name, asked, round(time.monotonic() - began, 2)))
        elif code:
            raise Down(f"{name} was not restarted (exit {code}): {self._child.communicate()[0]}")
        elif time.monotonic() > began + PATIENCE_S:
            raise Down(f"{name} was not restarted in {PATIENCE_S:.0f} s: {self._before}, {now}")

    def _start(self, name: str) -> subprocess.Popen[str]:
        conf = Path("conf", "supervisord.conf")
        ctl = ["supervisor.supervisorctl", "-c", str(conf), "restart", name]
        return subprocess.Popen(
            [sys.executable, "-m", *(["autopoll", "restart"] if name == EVERYTHING else ctl)],
            cwd=self._home.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for us alone
        )
