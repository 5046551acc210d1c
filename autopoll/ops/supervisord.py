"""supervisord as `autopoll up` runs it; plain supervisord on the same file works as well.

Added is that no signal is lost around the start, of supervisord itself and of each program, that
`ps` shows the home's path, and that stdout shows what happens, a line each.
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
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.home_events import HomeEvents
from autopoll.ops.line_writer import STDOUT, LineWriter
from autopoll.ops.readiness import START_LIMIT_S
from autopoll.process import signals
from autopoll.process.ready import missing
from autopoll.process.service_notice import ServiceNotice

POLL_EVERY_S = 1.0
_LEVELS = {
    loggers.LevelsByName.CRIT: "critical",
    loggers.LevelsByName.ERRO: "error",
    loggers.LevelsByName.WARN: "warning",
}


class SupervisordOptions(ServerOptions):  # type: ignore[misc]
    """supervisord's options and its calls to the system."""

    def __init__(self, home: Home, notice: ServiceNotice) -> None:
        super().__init__()
        self.home = home
        self.notice = notice
        self.line_writer = LineWriter(STDOUT, as_json=_says_json(home))

    def make_logger(self) -> None:
        """Log into the file and to stdout."""
        super().make_logger()
        self.logger.addHandler(_LineHandler(self.line_writer))

    def setsignals(self) -> None:
        """Let in the signals that `autopoll up` has held back until there are handlers."""
        super().setsignals()
        signals.let_in()

    def fork(self) -> int:
        """Start a child that a signal ends at once: it would have our handlers until it is a
        program, and what they note in its memory is lost."""
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


class ReportingSupervisor(supervisord.Supervisor):  # type: ignore[misc]
    """The supervisor, which writes the events of its home to stdout once a second."""

    def __init__(self, options: SupervisordOptions) -> None:
        super().__init__(options)
        self._events = HomeEvents(options.home)
        self._next_poll = 0.0
        self._starting_until = time.monotonic() + START_LIMIT_S
        self._announced = ""  # to the service manager

    def tick(self, now: float | None = None) -> None:
        """Do the work of one turn of the loop."""
        super().tick(now)
        if self.options.mood == SupervisorStates.SHUTDOWN:
            self._announce("STOPPING=1", "STATUS=finishing what is in flight")
        if time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + POLL_EVERY_S
        names = [name for group in self.process_groups.values() for name in group.processes]
        self._announce_ready(names)
        try:
            for event in self._events.poll(names):
                self.options.line_writer.write_line(
                    event.text, process=event.process, level=event.level
                )
        except (OSError, AutopollError) as error:
            self.options.logger.warn(f"the events of the home cannot be read: {error}")

    def _announce_ready(self, names: list[str]) -> None:
        """Say that the home is up, or, after the time that `up` waits, that it is up in part: it
        serves, and is not to be ended as one that does not start."""
        if self._announced or not names:
            return
        waiting = missing(self.options.home, names)
        if not waiting:
            self._announce("READY=1", "STATUS=ready")
        elif time.monotonic() > self._starting_until:
            self._announce("READY=1", f"STATUS=not ready: {', '.join(waiting)}")

    def _announce(self, state: str, status: str) -> None:
        """Tell the service manager a new state."""
        if state == self._announced or self.options.mood == SupervisorStates.RESTARTING:
            return
        self._announced = state
        try:
            self.options.notice.send(state, status, f"MAINPID={os.getpid()}")
        except OSError as error:
            self.options.logger.warn(f"the service manager takes no notice: {error}")


class _LineHandler(loggers.Handler):  # type: ignore[misc]
    """Writes each line of supervisord's log to stdout, without its time."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        self.setLevel(loggers.LevelsByName.INFO)

    def emit(self, record: loggers.LogRecord) -> None:
        """Write the message of a record."""
        level = _LEVELS.get(record.level, "info")
        self._writer.write_line(record.asdict()["message"], level=level)

    def flush(self) -> None:
        """Do nothing: a line is written, or lost, at once."""

    def close(self) -> None:
        """Leave stdout open for the next supervisor of this process."""


def named(argv: Sequence[str]) -> list[str]:
    """Return the words of a program with the path of its home in full, as `ps` shows them."""
    before = ["", *argv]
    return [
        os.path.realpath(word) if last == "--home" else word
        for last, word in zip(before, argv, strict=False)
    ]


def _says_json(home: Home) -> bool:
    """Tell whether stdout gets JSON; with a mistake in the settings it gets text."""
    try:
        return load(home).logging.format == "json"
    except AutopollError:
        return False


def main() -> None:
    """Be supervisord until it is stopped; as in its own main, HUP restarts it."""
    home = Home(Path.cwd())
    notice = ServiceNotice()
    first = True
    while True:
        options = SupervisordOptions(home, notice)
        options.realize(sys.argv[1:], doc=__doc__)
        options.first = first
        options.test = False
        options.line_writer.write_line(f"starting {home.root}")
        try:
            ReportingSupervisor(options).main()
        except ExitNow:
            options.line_writer.write_line(f"{home.root} is down")
        options.close_httpservers()
        options.close_logger()
        first = False
        if options.mood < SupervisorStates.RESTARTING:
            break


if __name__ == "__main__":
    main()
