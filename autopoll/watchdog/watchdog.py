"""The watchdog: judges every process of the home once a second and replaces what is broken.

It only judges and kills; supervisord starts. A process is killed rather than stopped and started,
so that a watchdog that dies half-way cannot leave a program down. Deaths are heard of at once,
through a pidfd per process; all else shows in the heartbeats. What it did and why is an incident.

It keeps no state of its own: a restarted watchdog finds the living by their heartbeats, and deaths
that it missed by what the next incarnation says of the one before.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from autopoll.home.home import Home, socket_path
from autopoll.process import heartbeat, incident_log, role, signals
from autopoll.process.actions import DRAINED, LEFT
from autopoll.process.heart import Heart
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.incident_log import IncidentLog
from autopoll.process.proc_stat import boot_id, read_stat
from autopoll.process.ready import is_up
from autopoll.process.restarter import Restarter
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.process.verdict import Sample, Thresholds, Verdict, judge
from autopoll.watchdog import evidence
from autopoll.watchdog.allowance import Allowances
from autopoll.watchdog.memory_watch import MemoryWatch
from autopoll.watchdog.remedy import Remedy
from autopoll.watchdog.supervisord_watch import SupervisordWatch
from autopoll.watchdog.watched import WatchedProcess

NAME = "watchdog"
LOOP_S = 1.0
GAP_S = 3.0  # a longer pause of our own makes every age meaningless
REAPED_S = 0.2  # the exit status is known once supervisord has waited for the process
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
        self.allowances = Allowances(home)
        self.memory_watch = MemoryWatch(home, self.allowances, self.remedy, self.incidents)
        self.processes: dict[str, WatchedProcess] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.awake_since = 0.0

    async def run(self) -> None:
        """Watch until told to stop, or until supervisord is gone."""
        self.loop = loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS))
        role.end_by(self.stopping.set, self.on_cut)
        self.heart.state = ProcessState.IDLE
        last = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - last > GAP_S:
                self.wake(now)
            last = now
            self.heart.beat()
            self.notice_ends()
            beats = [each for each in heartbeat.read_all(self.home.beats) if _is_of_this_boot(each)]
            for beat in beats:
                self.meet(beat)
                self.examine(beat.name)
            living = [each for each in beats if self.is_living(each)]
            self.incidents.close_recovered(living)
            self.close_paused(living)
            self.supervisord_watch.look(now, self.awake_since)
            if self.memory_watch.is_due(now):
                self.allowances.refresh()
                self.begin(self.memory_watch.look(self.processes.values()))
            if self.restarter.is_due(now, {each.name for each in beats if each not in living}):
                self.begin(self.restarter.look())
            await role.wait(self.stopping, LOOP_S)
        await self.leave()

    def on_cut(self) -> None:
        """End with supervisord, of whose death nobody else tells."""
        self.supervisord_watch.note_death()
        self.stopping.set()

    def close_paused(self, living: list[Beat]) -> None:
        """Wait no longer for those that are back, and kept from working by a pause only."""
        waiting = self.incidents.waiting()
        for beat in living:
            if beat.name in waiting and beat.state is ProcessState.HELD and is_up(self.home, beat):
                self.incidents.leave([beat.name], f"it is back, and held: {beat.note}")

    def wake(self, now: float) -> None:
        """Forget all ages: we were stopped or suspended, and so may everyone have been."""
        self.awake_since = now
        for process in self.processes.values():
            process.forget()

    def meet(self, beat: Beat) -> None:
        """Take on an incarnation that is new, and account for a death that nobody saw."""
        process = self.processes.get(beat.name)
        if process and _same(process.beat, beat):
            process.beat = beat
            return
        if process:
            self.on_death(process)
        if beat.crashed and not self.incidents.is_accounted(beat.name, beat.crashed):
            self.note_missed(beat.name, beat.crashed, f"{beat.name} runs again as {beat.pid}")
        if beat.name != self.heart.name and not beat.state.is_over:
            self.watch(beat)

    def watch(self, beat: Beat) -> None:
        """Listen for the death of a process, unless it is dead, though perhaps not yet reaped."""
        pidfd = signals.open_process(beat.pid, beat.started)
        if pidfd is not None and not signals.is_ready(pidfd):
            process = self.processes[beat.name] = WatchedProcess(beat, pidfd)
            self.listen(process)
            return
        if pidfd is not None:
            os.close(pidfd)
        if not self.incidents.is_accounted(beat.name, beat.pid):
            self.note_missed(beat.name, beat.pid, evidence.last_words(beat), beat.started)

    def listen(self, process: WatchedProcess) -> None:
        """Hear of a death at once, where the kernel tells of it, and else with the next look."""
        if signals.is_pidfd(process.pidfd):
            self.loop.add_reader(process.pidfd, self.on_death, process)
        elif not self.heart.note:
            self.heart.note = "there are no pidfds here: a death is noticed within a second"
            log.warning("%s", self.heart.note)

    def notice_ends(self) -> None:
        """Look who has died of those whose death nobody tells."""
        for process in list(self.processes.values()):
            if not signals.is_pidfd(process.pidfd) and signals.is_ready(process.pidfd):
                self.on_death(process)

    def note_missed(self, name: str, pid: int, seen: str, started: int = 0) -> None:
        """Record a death that was found afterwards."""
        self.incidents.note(
            name, Verdict.DEAD, LEFT, f"found dead; {seen}", pid=pid, started=started
        )

    def is_living(self, beat: Beat) -> bool:
        """Tell whether the process that beat is one we watch, or ourselves."""
        return beat.name in self.processes or beat.name == self.heart.name

    # --- ends

    def on_death(self, process: WatchedProcess) -> None:
        """Take leave of a process; its death is an incident unless it was meant or our doing."""
        if signals.is_pidfd(process.pidfd):
            self.loop.remove_reader(process.pidfd)
        beat = process.beat
        del self.processes[beat.name]
        process.ended.set()
        latest = heartbeat.read(self.home.beats / beat.name)
        if process.was_killed or (latest and _ended_well(latest, beat)):
            os.close(process.pidfd)
            self.incidents.account(beat.name, beat.pid)
        else:
            self.begin(self.account_for(process, time.monotonic()))
        if process.draining_since is not None:
            self.begin(self.remedy.clear_up(process))
        elif latest and _same(latest, beat) and latest.state is ProcessState.RETIRED:
            self.incidents.note(beat.name, Verdict.RECYCLED, DRAINED, latest.note, pid=beat.pid)

    async def account_for(self, process: WatchedProcess, clock: float) -> None:
        """Record a death together with what it died of."""
        beat = process.beat
        try:
            await asyncio.sleep(REAPED_S)
        finally:  # also when we are told to end meanwhile
            cause = _cause(signals.exit_status(process.pidfd))
            os.close(process.pidfd)
            self.incidents.note(
                beat.name,
                Verdict.DEAD,
                LEFT,
                f"{cause}; {evidence.last_words(beat)}",
                pid=beat.pid,
                started=beat.started,
                clock=clock,
            )

    # --- verdicts

    def examine(self, name: str) -> None:
        """Judge a process, and begin to act when something is wrong."""
        process = self.processes.get(name)
        if process is None or process.is_handled or process.was_killed:
            return
        verdict = self.judge(process)
        if verdict.is_bad:
            self.begin(self.act(process, verdict))
        elif process.draining_since and process.drained_for:
            late = time.monotonic() - process.draining_since
            if late > self.thresholds.draining:
                seen = f"told to end {late:.0f} s ago"
                self.begin(self.remedy.kill(process, process.drained_for, seen))

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
        if allowed := self.allowances.of(process.name).progress_s:
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
        return found if found and _same(found, beat) else beat

    # --- the loop

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop, which must not stand still."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.finish)

    def finish(self, task: asyncio.Task[None]) -> None:
        """Let go of a task; what it did not expect is logged, and the watch goes on."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("unexpected", exc_info=error)

    async def leave(self) -> None:
        """Give up what is under way; a successor finds all of it again."""
        tasks = list(self.tasks)
        await asyncio.sleep(0)  # what was begun in this turn shall see that it is cancelled
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(home: Home, thresholds: Thresholds | None = None) -> None:
    """Be the watchdog process until told to stop; raise what makes it impossible."""
    with role.alone(home, NAME), Heart.open(home.beats, NAME, NAME) as heart:
        asyncio.run(Watchdog(home, heart, thresholds or Thresholds()).run())


def _is_of_this_boot(beat: Beat) -> bool:
    return beat.boot_id == boot_id()


def _same(one: Beat, other: Beat) -> bool:
    return (one.pid, one.started) == (other.pid, other.started)


def _ended_well(latest: Beat, beat: Beat) -> bool:
    """Tell from the latest beat whether an incarnation that is dead had said that it was ending."""
    if _same(latest, beat):
        return latest.state.is_over
    return latest.crashed != beat.pid


def _cause(status: int | None) -> str:
    if status is None:
        return "exit status unknown"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
