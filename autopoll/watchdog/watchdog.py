"""The watchdog: judges every process of the home once a second and replaces what is broken.

It only judges and kills; supervisord starts. A process is killed rather than stopped and started,
so that a watchdog that dies half-way cannot leave a program down. Deaths show at once, through a
pidfd per process; all else shows in the heartbeats. What it did and why is an incident.

It keeps no state of its own: a restarted watchdog finds the living by their heartbeats, and deaths
that it missed by what the next incarnation says of the one before.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from autopoll.clock import until_next
from autopoll.home.home import Home, socket_path
from autopoll.process import heartbeat, incident_log, role
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.incident_log import IncidentLog
from autopoll.process.proc_stat import boot_id, read_stat
from autopoll.process.ready import is_up
from autopoll.process.restarter import Restarter
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.process.verdict import GAP_S, Sample, Thresholds, Verdict, judge
from autopoll.watchdog import evidence
from autopoll.watchdog.background import BackgroundTasks
from autopoll.watchdog.memory_watch import MemoryWatch
from autopoll.watchdog.remedy import Remedy
from autopoll.watchdog.supervisord_watch import SupervisordWatch
from autopoll.watchdog.watch_list import WatchList
from autopoll.watchdog.watched import WatchedProcess
from autopoll.watchdog.worker_limits import WorkerLimits

NAME = "watchdog"
LOOP_S = 1.0
THREADS = 32  # that wait for evidence and for deaths; as many may hang in one storm

log = logging.getLogger(__name__)


class Watchdog:
    """One per home."""

    def __init__(self, home: Home, heart: Heart, thresholds: Thresholds) -> None:
        self.home = home
        self.heart = heart
        self.thresholds = thresholds
        self.incidents = IncidentLog(home.incidents, incident_log.read(home.incidents))
        self.remedy = Remedy(home, self.incidents)
        self.restarter = Restarter(Supervisor(socket_path(home)), self.incidents)
        self.supervisord_watch = SupervisordWatch(home.run / "supervisord.pid", self.incidents)
        self.limits = WorkerLimits(home)
        self.memory_watch = MemoryWatch(home, self.limits, self.remedy, self.incidents)
        self.tasks = BackgroundTasks()
        self.watch_list = WatchList(home, heart, self.incidents, self.remedy, self.tasks)
        self.stopping = False
        self.news = asyncio.Event()  # the loop need not wait for its next second
        self.awake_since = self.last_look = 0.0

    async def run(self) -> None:
        """Watch until asked to stop, or until supervisord is gone."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        role.end_by(self.stop, self.on_orphaned)
        self.heart.state = ProcessState.IDLE
        while not self.stopping:
            self.heart.beat()
            self.look(time.monotonic())
            await role.pause(self.news, until_next(LOOP_S, time.monotonic()))
        await self.tasks.cancel()  # a successor finds all of it again

    def stop(self) -> None:
        """End; what is under way is left to a successor."""
        self.stopping = True
        self.news.set()

    def on_orphaned(self) -> None:
        """End with supervisord, whose death nothing else records."""
        self.supervisord_watch.note_death()
        self.stop()

    def look(self, now: float) -> None:
        """Look at every process once, and begin what has to be done."""
        if now - self.last_look > GAP_S:
            self.forget_ages(now)
        self.last_look = now
        self.watch_list.notice_ends()
        beats = [each for each in heartbeat.read_all(self.home.beats) if each.boot_id == boot_id()]
        for beat in beats:
            if process := self.watch_list.update(beat):
                self.examine(process)
        living = [each for each in beats if self.watch_list.is_living(each)]
        self.incidents.close_recovered(living)
        self.close_paused(living)
        self.supervisord_watch.look(now, self.awake_since)
        if self.memory_watch.is_due(now):
            self.limits.refresh()
            self.tasks.begin(self.memory_watch.look(self.watch_list))
        if self.restarter.is_due(now, {each.name for each in beats if each not in living}):
            self.tasks.begin(self.restarter.look())

    def forget_ages(self, now: float) -> None:
        """Begin all ages now: we were stopped or suspended, and so may every process have been."""
        self.awake_since = now
        for process in self.watch_list:
            process.forget()

    def close_paused(self, living: list[Beat]) -> None:
        """Wait no longer for those that are back, and kept from working by a pause only."""
        waiting = self.incidents.waiting()
        for beat in living:
            if beat.name in waiting and beat.state is ProcessState.HELD and is_up(self.home, beat):
                self.incidents.leave([beat.name], f"it is back, and held: {beat.note}")

    def examine(self, process: WatchedProcess) -> None:
        """Judge a process, and begin to act when something is wrong."""
        if process.is_handled or process.was_killed:
            return
        verdict = self.judge(process)
        if verdict.is_bad:
            self.tasks.begin(self.act(process, verdict))
        elif process.draining_since and process.drained_for:
            late = time.monotonic() - process.draining_since
            if late > self.thresholds.draining:
                seen = f"told to end {late:.0f} s ago"
                self.tasks.begin(self.remedy.kill(process, process.drained_for, seen))

    def judge(self, process: WatchedProcess) -> Verdict:
        """Take a sample and return the verdict on all of them."""
        reading = read_stat(process.beat.pid)
        if reading is None or reading.started != process.beat.started:
            return Verdict.HEALTHY  # dead: its pidfd is about to say so
        if process.reported and not reading.blocked:
            process.reported = False
            self.incidents.close(process.name, Verdict.UNINTERRUPTIBLE, time.monotonic())
        process.samples.append(Sample(time.monotonic(), process.beat, reading))
        thresholds = self.thresholds
        if allowed := self.limits.of(process.name).progress_s:
            thresholds = msgspec.structs.replace(thresholds, progress=allowed)
        return judge(process.samples, self.awake_since, thresholds)

    async def act(self, process: WatchedProcess, verdict: Verdict) -> None:
        """Save the evidence, look once more, and do what the verdict asks for."""
        process.is_handled = True
        blocked = verdict is Verdict.UNINTERRUPTIBLE
        try:
            if blocked and process.reported and not process.is_overdue(self.thresholds.overdue):
                return
            seen = await evidence.collect(self.home, process.beat, verdict)
            process.beat = self.latest(process.beat)
            if process.ended.is_set() or self.judge(process) is not verdict:
                log.info("%s: %s no more; %s", process.name, verdict, seen)
            elif verdict is Verdict.STOPPED and self.remedy.may_resume(process):
                self.remedy.resume(process, seen)
            elif blocked and not process.is_overdue(self.thresholds.overdue):
                self.remedy.report(process, verdict, seen)
            else:
                await self.remedy.kill(process, verdict, seen)
        finally:
            process.is_handled = False

    def latest(self, beat: Beat) -> Beat:
        """Return what the same incarnation says now."""
        found = heartbeat.read(self.home.beats / beat.name)
        return found if found and found.is_of_same_process(beat) else beat


def run(home: Home, thresholds: Thresholds | None = None) -> None:
    """Be the watchdog process until asked to stop; raise what makes it impossible."""
    with role.alone(home, NAME), Heart.open(home.beats, NAME, NAME) as heart:
        asyncio.run(Watchdog(home, heart, thresholds or Thresholds()).run())
