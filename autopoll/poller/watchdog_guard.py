"""The poller's watch over the watchdog: the same verdicts, and fewer remedies.

A stopped watchdog is continued once; when that does not help, or its loop hangs, it is killed, and
supervisord starts another. supervisord also restarts one that has died, until it gives it up: then
it is started again here, under the budget of all programs.
"""

import asyncio
import logging
import signal
import time
from collections import deque

from autopoll.errors import ConfigError
from autopoll.home.home import Home, socket_path
from autopoll.process import heartbeat, signals
from autopoll.process.heartbeat import Beat
from autopoll.process.incident_actions import CONTINUED, KILLED
from autopoll.process.incident_log import IncidentLog
from autopoll.process.proc_stat import read_stat
from autopoll.process.restarter import Restarter
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.process.verdict import DEFAULT_THRESHOLDS, GAP_S, Sample, Thresholds, Verdict, judge

NAME = "watchdog"
MISSED_AFTER_S = 5.0  # supervisord starts what has died within a second, if it will

log = logging.getLogger(__name__)


class WatchdogGuard:
    """The watch over the watchdog of a home; used inside a running event loop."""

    def __init__(self, home: Home, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self._home = home
        self._heartbeat = home.beats / NAME
        self._thresholds = thresholds
        self._incidents = IncidentLog(home.incidents)
        self._samples: deque[Sample] = deque(maxlen=15)
        self._continued_at = -signals.CONTINUE_ONCE_IN_S
        self._killed: Beat | None = None
        self._missed_since: float | None = None
        self._restarter: Restarter | None = None
        self._task: asyncio.Task[None] | None = None
        self._checked_at = 0.0
        self._awake_since = 0.0  # since when we have checked without a gap

    def check(self) -> None:
        """Take a sample and act on what it shows; to be called about once a second."""
        now = time.monotonic()
        if now - self._checked_at > GAP_S:
            self._awake_since = now
        self._checked_at = now
        beat = heartbeat.read(self._heartbeat)
        reading = read_stat(beat.pid) if beat else None
        if beat is None or reading is None or reading.zombie or reading.started != beat.started:
            self._samples.clear()
            self._miss(now)
            return
        self._missed_since = None
        if self._samples and self._samples[-1].beat.pid != beat.pid:
            self._samples.clear()
        self._samples.append(Sample(now, beat, reading))
        verdict = judge(self._samples, self._awake_since, self._thresholds)
        if verdict.is_bad:
            self._samples.clear()
            self._act(beat, verdict, now)
        else:
            self._incidents.close_recovered([beat])

    def _act(self, beat: Beat, verdict: Verdict, now: float) -> None:
        if self._killed and self._killed.is_of_same_process(beat):
            return  # it is in uninterruptible sleep: a second signal would add nothing
        if verdict is Verdict.STOPPED and now - self._continued_at > signals.CONTINUE_ONCE_IN_S:
            self._continued_at = now
            action, number = CONTINUED, signal.SIGCONT
        else:
            self._killed = beat
            action, number = KILLED, signal.SIGKILL
        seen = f"{beat.state}, loop beat {now - beat.loop_beat:.1f} s ago; seen by the poller"
        self._incidents.note(NAME, verdict, action, seen, pid=beat.pid, started=beat.started)
        signals.send_group(beat.pid, beat.started, number)

    def _miss(self, now: float) -> None:
        """Start a watchdog that is missing, if supervisord has given it up."""
        if self._missed_since is None:
            self._missed_since = now
        if now - max(self._missed_since, self._awake_since) < MISSED_AFTER_S:
            return
        if self._restarter is None:
            try:
                supervisor = Supervisor(socket_path(self._home))
            except ConfigError as error:
                log.warning("the watchdog cannot be started again: %s", error)
                return
            self._restarter = Restarter(supervisor, self._incidents, only=NAME)
        if self._restarter.is_due(now, ()):
            self._task = asyncio.get_running_loop().create_task(self._restarter.look())
