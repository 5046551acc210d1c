"""Who watches the watchdog: the poller, with the same judgement and fewer means.

A stopped watchdog is sent on its way once; when that does not help, or its loop stands still, it is
killed, and supervisord starts another. Its death alone needs no guard: supervisord sees that.
"""

import logging
import signal
import time
from collections import deque
from pathlib import Path

from autopoll.process import heartbeat, incidents, signals
from autopoll.process.heartbeat import Beat
from autopoll.process.verdict import DEFAULT_LIMITS, Limits, Sample, Verdict, judge
from autopoll.process.vitals import vitals

CONTINUE_ONCE_IN_S = 60.0

log = logging.getLogger(__name__)


class Guard:
    """The watch over one process, by its heartbeat file."""

    def __init__(self, beat: Path, record: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self._path = beat
        self._record = record
        self._limits = limits
        self._samples: deque[Sample] = deque(maxlen=10)
        self._continued_at = -CONTINUE_ONCE_IN_S

    def look(self, awake_since: float) -> None:
        """Take a sample and act on what it shows; to be called about once a second.

        `awake_since` is when the caller itself began to look without a gap (CLOCK_MONOTONIC).
        """
        beat = heartbeat.read(self._path)
        reading = vitals(beat.pid) if beat else None
        if beat is None or reading is None or reading.started != beat.started:
            self._samples.clear()
            return
        if self._samples and self._samples[-1].beat.pid != beat.pid:
            self._samples.clear()
        now = time.monotonic()
        self._samples.append(Sample(now, beat, reading))
        verdict = judge(self._samples, awake_since, self._limits)
        if verdict.is_bad:
            self._samples.clear()
            self._act(beat, verdict, now)

    def _act(self, beat: Beat, verdict: Verdict, now: float) -> None:
        if verdict is Verdict.STOPPED and now - self._continued_at > CONTINUE_ONCE_IN_S:
            self._continued_at = now
            action, number = "continued", signal.SIGCONT
        else:
            action, number = "killed", signal.SIGKILL
        seen = f"{beat.state}, loop beat {now - beat.loop_beat:.1f} s ago; seen by the poller"
        log.warning("%s is %s, %s", beat.name, verdict, action)
        try:
            incidents.record(
                self._record,
                process=beat.name,
                verdict=verdict,
                action=action,
                evidence=seen,
                pid=beat.pid,
            )
        except OSError as error:  # a full disk must not keep a hung watchdog alive
            log.warning("the incident could not be kept: %s", error)
        signals.send_group(beat.pid, beat.started, number)
