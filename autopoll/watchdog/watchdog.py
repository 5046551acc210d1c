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
from autopoll.process.casebook import Casebook
from autopoll.process.heartbeat import Beat, Heart, State
from autopoll.process.ready import is_up
from autopoll.process.reviver import Reviver
from autopoll.process.supervisor_rpc import Supervisor
from autopoll.process.verdict import Limits, Sample, Verdict, judge
from autopoll.process.vitals import boot_id, vitals
from autopoll.watchdog import evidence
from autopoll.watchdog.allowance import Allowances
from autopoll.watchdog.memory_watch import Weighing
from autopoll.watchdog.supervisord_watch import Parent
from autopoll.watchdog.treatment import Treatment
from autopoll.watchdog.watched import Patient

NAME = "watchdog"
LOOP_S = 1.0
GAP_S = 3.0  # a longer pause of our own makes every age meaningless
REAPED_S = 0.2  # the exit status is known once supervisord has waited for the process
THREADS = 32  # that wait for evidence and for deaths; as many may hang in one storm

log = logging.getLogger(__name__)


class Watchdog:
    """One per home."""

    def __init__(self, home: Home, heart: Heart, limits: Limits) -> None:
        self.home = home
        self.heart = heart
        self.limits = limits
        self.casebook = Casebook(home.incidents, incident_log.read(home.incidents))
        self.treatment = Treatment(home, self.casebook)
        self.reviver = Reviver(Supervisor(socket_path(home)), self.casebook)
        self.parent = Parent(home.run / "supervisord.pid", self.casebook)
        self.allowances = Allowances(home)
        self.weighing = Weighing(home, self.allowances, self.treatment, self.casebook)
        self.patients: dict[str, Patient] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.awake_since = 0.0

    async def run(self) -> None:
        """Watch until told to stop, or until supervisord is gone."""
        self.loop = loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS))
        role.end_by(self.stopping.set, self.on_cut)
        self.heart.state = State.IDLE
        last = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - last > GAP_S:
                self.wake(now)
            last = now
            self.heart.beat()
            self.bury()
            beats = [each for each in heartbeat.read_all(self.home.beats) if _is_of_this_boot(each)]
            for beat in beats:
                self.meet(beat)
                self.examine(beat.name)
            living = [each for each in beats if self.is_living(each)]
            self.casebook.close_recovered(living)
            self.close_paused(living)
            self.parent.look(now, self.awake_since)
            if self.weighing.is_due(now):
                self.allowances.refresh()
                self.begin(self.weighing.look(self.patients.values()))
            if self.reviver.is_due(now, {each.name for each in beats if each not in living}):
                self.begin(self.reviver.look())
            await role.wait(self.stopping, LOOP_S)
        await self.leave()

    def on_cut(self) -> None:
        """End with supervisord, of whose death nobody else tells."""
        self.parent.note_death()
        self.stopping.set()

    def close_paused(self, living: list[Beat]) -> None:
        """Wait no longer for those that are back, and kept from working by a pause only."""
        waiting = self.casebook.waiting()
        for beat in living:
            if beat.name in waiting and beat.state is State.HELD and is_up(self.home, beat):
                self.casebook.leave([beat.name], f"it is back, and held: {beat.note}")

    def wake(self, now: float) -> None:
        """Forget all ages: we were stopped or suspended, and so may everyone have been."""
        self.awake_since = now
        for patient in self.patients.values():
            patient.forget()

    def meet(self, beat: Beat) -> None:
        """Take on an incarnation that is new, and account for a death that nobody saw."""
        patient = self.patients.get(beat.name)
        if patient and _same(patient.beat, beat):
            patient.beat = beat
            return
        if patient:
            self.on_death(patient)
        if beat.crashed and not self.casebook.is_accounted(beat.name, beat.crashed):
            self.note_missed(beat.name, beat.crashed, f"{beat.name} runs again as {beat.pid}")
        if beat.name != self.heart.name and not beat.state.is_over:
            self.admit(beat)

    def admit(self, beat: Beat) -> None:
        """Listen for the death of a process, unless it is dead, though perhaps not yet reaped."""
        pidfd = signals.open_process(beat.pid, beat.started)
        if pidfd is not None and not signals.is_ready(pidfd):
            patient = self.patients[beat.name] = Patient(beat, pidfd)
            self.listen(patient)
            return
        if pidfd is not None:
            os.close(pidfd)
        if not self.casebook.is_accounted(beat.name, beat.pid):
            self.note_missed(beat.name, beat.pid, evidence.last_words(beat), beat.started)

    def listen(self, patient: Patient) -> None:
        """Hear of a death at once, where the kernel tells of it, and else with the next look."""
        if signals.is_pidfd(patient.pidfd):
            self.loop.add_reader(patient.pidfd, self.on_death, patient)
        elif not self.heart.note:
            self.heart.note = "there are no pidfds here: a death is noticed within a second"
            log.warning("%s", self.heart.note)

    def bury(self) -> None:
        """Look who has died of those whose death nobody tells."""
        for patient in list(self.patients.values()):
            if not signals.is_pidfd(patient.pidfd) and signals.is_ready(patient.pidfd):
                self.on_death(patient)

    def note_missed(self, name: str, pid: int, seen: str, started: int = 0) -> None:
        """Record a death that was found afterwards."""
        self.casebook.note(
            name, Verdict.DEAD, LEFT, f"found dead; {seen}", pid=pid, started=started
        )

    def is_living(self, beat: Beat) -> bool:
        """Tell whether the process that beat is one we watch, or ourselves."""
        return beat.name in self.patients or beat.name == self.heart.name

    # --- the dead

    def on_death(self, patient: Patient) -> None:
        """Take leave of a process; its death is an incident unless it was meant or our doing."""
        if signals.is_pidfd(patient.pidfd):
            self.loop.remove_reader(patient.pidfd)
        beat = patient.beat
        del self.patients[beat.name]
        patient.ended.set()
        latest = heartbeat.read(self.home.beats / beat.name)
        if patient.doomed or (latest and _ended_well(latest, beat)):
            os.close(patient.pidfd)
            self.casebook.account(beat.name, beat.pid)
        else:
            self.begin(self.account_for(patient, time.monotonic()))
        if patient.draining_since is not None:
            self.begin(self.treatment.clear_up(patient))
        elif latest and _same(latest, beat) and latest.state is State.RETIRED:
            self.casebook.note(beat.name, Verdict.RECYCLED, DRAINED, latest.note, pid=beat.pid)

    async def account_for(self, patient: Patient, clock: float) -> None:
        """Record a death together with what it died of."""
        beat = patient.beat
        try:
            await asyncio.sleep(REAPED_S)
        finally:  # also when we are told to end meanwhile
            cause = _cause(signals.exit_status(patient.pidfd))
            os.close(patient.pidfd)
            self.casebook.note(
                beat.name,
                Verdict.DEAD,
                LEFT,
                f"{cause}; {evidence.last_words(beat)}",
                pid=beat.pid,
                started=beat.started,
                clock=clock,
            )

    # --- the sick

    def examine(self, name: str) -> None:
        """Judge a process, and begin to treat it when something is wrong."""
        patient = self.patients.get(name)
        if patient is None or patient.in_treatment or patient.doomed:
            return
        verdict = self.judge(patient)
        if verdict.is_bad:
            self.begin(self.treat(patient, verdict))
        elif patient.draining_since and patient.drained_for:
            late = time.monotonic() - patient.draining_since
            if late > self.limits.draining:
                seen = f"told to end {late:.0f} s ago"
                self.begin(self.treatment.kill(patient, patient.drained_for, seen))

    def judge(self, patient: Patient) -> Verdict:
        """Take a sample and return the verdict on all of them."""
        reading = vitals(patient.beat.pid)
        if reading is None or reading.started != patient.beat.started:
            return Verdict.HEALTHY  # dead: its pidfd is about to say so
        if patient.reported and not reading.blocked:
            patient.reported = False
            self.casebook.close(patient.name, Verdict.UNINTERRUPTIBLE, time.monotonic())
        patient.samples.append(Sample(time.monotonic(), patient.beat, reading))
        limits = self.limits
        if allowed := self.allowances.of(patient.name).progress_s:
            limits = msgspec.structs.replace(limits, progress=allowed)
        return judge(patient.samples, self.awake_since, limits)

    async def treat(self, patient: Patient, verdict: Verdict) -> None:
        """Save the evidence, look once more, and do what the verdict asks for."""
        patient.in_treatment = True
        blocked = verdict is Verdict.UNINTERRUPTIBLE
        try:
            if blocked and patient.reported and not patient.is_overdue(self.limits.overdue):
                return
            seen = await evidence.collect(self.home, patient.beat, verdict)
            patient.beat = self.latest(patient.beat)
            if patient.ended.is_set() or self.judge(patient) is not verdict:
                log.info("%s: %s no more; %s", patient.name, verdict, seen)
            elif verdict is Verdict.STOPPED and self.treatment.may_resume(patient):
                self.treatment.resume(patient, seen)
            elif blocked and not patient.is_overdue(self.limits.overdue):
                self.treatment.report(patient, verdict, seen)
            else:
                await self.treatment.kill(patient, verdict, seen)
        finally:
            patient.in_treatment = False

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


def run(home: Home, limits: Limits | None = None) -> None:
    """Be the watchdog process until told to stop; raise what makes it impossible."""
    with role.alone(home, NAME), Heart.open(home.beats, NAME, NAME) as heart:
        asyncio.run(Watchdog(home, heart, limits or Limits()).run())


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
