"""supervisord, seen from its child the watchdog: when it is stopped, it is continued, once.

While it is stopped nothing is restarted, and the kernel still shows it as alive. It is
never killed: its children would take that for their own end. When it dies, that is an incident, and
over as soon as there is another.
"""

import os
import signal
from pathlib import Path

from autopoll.process import signals
from autopoll.process.incident_actions import CONTINUED, LEFT_TO_UP
from autopoll.process.incident_log import IncidentLog
from autopoll.process.proc_stat import read_stat
from autopoll.process.restarter import SUPERVISORD
from autopoll.process.verdict import Verdict

_STOPPED_S = 2.0


class SupervisordWatch:
    """The watch over the process that started us."""

    def __init__(self, pidfile: Path, incidents: IncidentLog) -> None:
        self._pidfile = pidfile
        self._incidents = incidents
        self._stopped_since: float | None = None
        self._continued_at = -signals.CONTINUE_ONCE_IN_S
        self._pid = os.getppid()
        reading = read_stat(self._pid)
        self._started = reading.started if reading else 0

    def look(self, now: float, awake_since: float) -> None:
        """Take a sample and act on it; to be called about once a second (CLOCK_MONOTONIC)."""
        pid = os.getppid()
        self._incidents.succeeded(SUPERVISORD, pid, now)
        reading = read_stat(pid)
        if reading is None or not reading.stopped:
            if self._stopped_since is not None:
                self._stopped_since = None
                self._incidents.close(SUPERVISORD, Verdict.STOPPED, now)
            return
        if self._stopped_since is None:
            self._stopped_since = now
        held = now - max(self._stopped_since, awake_since)
        may = now - self._continued_at > signals.CONTINUE_ONCE_IN_S
        if held >= _STOPPED_S and may and self._is_supervisord(pid):
            self._continued_at = now
            seen = f"process {pid} has been stopped for {held:.1f} s"
            self._incidents.note(SUPERVISORD, Verdict.STOPPED, CONTINUED, seen, pid=pid)
            signals.send(pid, reading.started, signal.SIGCONT)

    def note_death(self) -> None:
        """Record that supervisord is gone, without having asked its programs to end."""
        if self._is_supervisord(self._pid):
            self._incidents.note(
                SUPERVISORD,
                Verdict.DEAD,
                LEFT_TO_UP,
                f"process {self._pid} is gone; its programs finish what they have in hand and end",
                pid=self._pid,
                started=self._started,
            )

    def _is_supervisord(self, pid: int) -> bool:
        """Tell whether our parent is not just the shell of someone who runs us by hand."""
        try:
            return self._pidfile.read_text(encoding="ascii").strip() == str(pid)
        except (OSError, UnicodeDecodeError):
            return False
