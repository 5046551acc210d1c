"""supervisord as `autopoll up` runs it; plain supervisord on the same file works as well.

Added is that no signal is lost around the start, of supervisord itself and of each program, that
`ps` shows the home's path, and that stdout tells what happens, a line each.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from supervisor import loggers, supervisord
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates

from autopoll.errors import AutopollError
from autopoll.home.home import Home
from autopoll.ops.news import News
from autopoll.ops.outlet import STDOUT, Outlet
from autopoll.process import signals

LOOK_EVERY_S = 1.0


class Options(ServerOptions):  # type: ignore[misc]
    """What supervisord asks of the system."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.home = home
        self.outlet = Outlet(STDOUT)

    def make_logger(self) -> None:
        """Log into the file, and tell our reader the same."""
        super().make_logger()
        self.logger.addHandler(_Teller(self.outlet))

    def setsignals(self) -> None:
        """Let in what `autopoll up` has held back until there is somebody to hear it."""
        super().setsignals()
        signals.let_in()

    def fork(self) -> int:
        """Start a child that a signal ends at once: it would have our handlers until it is a
        program, and what they note in its memory nobody reads."""
        signals.hold_back()
        try:
            pid = os.fork()
            if pid == 0:
                for number in signals.HELD:
                    signal.signal(number, signal.SIG_DFL)
            return pid
        finally:
            signals.let_in()

    def execve(self, filename: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Become the program, under a name that says of which home."""
        super().execve(filename, named(argv), env)


class Watched(supervisord.Supervisor):  # type: ignore[misc]
    """The supervisor, which looks for news once a second."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._news = News(options.home)
        self._next_look = 0.0

    def tick(self, now: float | None = None) -> None:
        """Do what is to be done after each turn of the loop."""
        super().tick(now)
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        names = [name for group in self.process_groups.values() for name in group.processes]
        try:
            for line in self._news.look(names):
                self.options.outlet.say(line)
        except (OSError, AutopollError) as error:
            self.options.logger.warn(f"no news: {error}")


class _Teller(loggers.Handler):  # type: ignore[misc]
    """Has each line of supervisord's log told."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self.setLevel(loggers.LevelsByName.INFO)

    def emit(self, record: loggers.LogRecord) -> None:
        """Tell what a record says; when, the reader knows."""
        self._outlet.say(record.asdict()["message"])

    def flush(self) -> None:
        """Have nothing to flush: a line is written, or lost, at once."""

    def close(self) -> None:
        """Leave stdout open for the next supervisor of this process."""


def named(argv: Sequence[str]) -> list[str]:
    """Return the words of a program with the path of its home in full, as `ps` shows them."""
    before = ["", *argv]
    return [
        os.path.realpath(word) if last == "--home" else word
        for last, word in zip(before, argv, strict=False)
    ]


def main() -> None:
    """Be supervisord until told to end; as in its own main, HUP is a new beginning."""
    home = Home(Path.cwd())
    first = True
    while True:
        options = Options(home)
        options.realize(sys.argv[1:], doc=__doc__)
        options.first = first
        options.test = False
        options.outlet.say(f"starting {home.root}")
        try:
            Watched(options).main()
        except ExitNow:
            options.outlet.say(f"{home.root} is down")
        options.close_httpservers()
        options.close_logger()
        first = False
        if options.mood < SupervisorStates.RESTARTING:
            break


if __name__ == "__main__":
    main()
