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
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from autopoll import logs
from autopoll.home import Home, socket_path
from autopoll.lock import hold
from autopoll.process import evidence, heartbeat, orphans, signals
from autopoll.process.casebook import CONTINUED, Casebook
from autopoll.process.heartbeat import Beat, Heart, State
from autopoll.process.lifeline import Lifeline
from autopoll.process.reviver import Reviver
from autopoll.process.supervisor import Supervisor
from autopoll.process.verdict import Limits, Sample, Verdict, judge
from autopoll.process.vitals import boot_id, vitals

NAME = "watchdog"
LOOP_S = 1.0
GAP_S = 3.0  # a longer pause of our own makes every age meaningless
DEATH_S = 5.0  # from KILL until a process is called undying
CONTINUE_ONCE_IN_S = 60.0
EVIDENCE_S = 3.0  # reading /proc can hang as the process itself does
REAPED_S = 0.2  # the exit status is known once supervisord has waited for the process

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Patient:
    """One incarnation of one process."""

    beat: Beat
    pidfd: int
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=10))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    continued_at: float | None = None
    in_treatment: bool = False
    doomed: bool = False  # killed by us: its death is no incident of its own


class Watchdog:
    """One per home."""

    def __init__(self, home: Home, heart: Heart, limits: Limits) -> None:
        self.home = home
        self.heart = heart
        self.limits = limits
        self.casebook = Casebook(home.incidents)
        self.reviver = Reviver(Supervisor(socket_path(home)), self.casebook)
        self.patients: dict[str, Patient] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.awake_since = 0.0

    async def run(self) -> None:
        """Watch until told to stop, or until supervisord is gone."""
        self.loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        Lifeline().attach(loop, self.stopping.set)
        self.heart.state = State.IDLE
        last = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            if now - last > GAP_S:
                self.wake(now)
            last = now
            self.heart.beat()
            beats = [each for each in heartbeat.read_all(self.home.beats) if _is_of_this_boot(each)]
            for beat in beats:
                self.meet(beat)
                self.examine(beat.name)
            living = [each for each in beats if self.is_living(each)]
            self.casebook.close_recovered(living)
            if self.reviver.is_due(now, {each.name for each in beats if each not in living}):
                self.begin(self.reviver.look())
            await self.pause()
        await self.leave()

    def wake(self, now: float) -> None:
        """Forget all ages: we were stopped or suspended, and so may everyone have been."""
        self.awake_since = now
        for patient in self.patients.values():
            patient.samples.clear()

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
        if beat.name != self.heart.name and beat.state is not State.STOPPED:
            self.admit(beat)

    def admit(self, beat: Beat) -> None:
        """Listen for the death of a process, unless it is dead, though perhaps not yet reaped."""
        pidfd = signals.open_process(beat.pid, beat.started)
        if pidfd is not None and not signals.is_ready(pidfd):
            patient = self.patients[beat.name] = Patient(beat, pidfd)
            self.loop.add_reader(pidfd, self.on_death, patient)
            return
        if pidfd is not None:
            os.close(pidfd)
        if not self.casebook.is_accounted(beat.name, beat.pid):
            self.note_missed(beat.name, beat.pid, _last_words(beat))

    def note_missed(self, name: str, pid: int, seen: str) -> None:
        """Record a death that was found afterwards."""
        self.casebook.note(
            name, Verdict.DEAD, "left to supervisord", f"found dead; {seen}", pid=pid
        )

    def is_living(self, beat: Beat) -> bool:
        """Tell whether the process that beat is one we watch, or ourselves."""
        return beat.name in self.patients or beat.name == self.heart.name

    # --- the dead

    def on_death(self, patient: Patient) -> None:
        """Take leave of a process; its death is an incident unless it was meant or our doing."""
        self.loop.remove_reader(patient.pidfd)
        beat = patient.beat
        del self.patients[beat.name]
        patient.ended.set()
        self.casebook.account(beat.name, beat.pid)
        if patient.doomed or self.ended_well(beat):
            os.close(patient.pidfd)
        else:
            self.begin(self.account_for(patient, time.monotonic()))

    def ended_well(self, beat: Beat) -> bool:
        """Tell whether the process had said that it was ending."""
        latest = heartbeat.read(self.home.beats / beat.name)
        if latest is None:
            return False
        if _same(latest, beat):
            return latest.state is State.STOPPED
        return latest.crashed != beat.pid

    async def account_for(self, patient: Patient, clock: float) -> None:
        """Record a death together with what it died of."""
        await asyncio.sleep(REAPED_S)
        cause = _cause(signals.exit_status(patient.pidfd))
        os.close(patient.pidfd)
        beat = patient.beat
        self.casebook.note(
            beat.name,
            Verdict.DEAD,
            "left to supervisord",
            f"{cause}; {_last_words(beat)}",
            pid=beat.pid,
            clock=clock,
        )

    # --- the sick

    def examine(self, name: str) -> None:
        """Judge a process, and begin to treat it when something is wrong."""
        patient = self.patients.get(name)
        if patient is None or patient.in_treatment:
            return
        verdict = self.judge(patient)
        if verdict.is_bad:
            patient.in_treatment = True
            self.begin(self.treat(patient, verdict))

    def judge(self, patient: Patient) -> Verdict:
        """Take a sample and return the verdict on all of them."""
        reading = vitals(patient.beat.pid)
        if reading is None or reading.started != patient.beat.started:
            return Verdict.HEALTHY  # dead: its pidfd is about to say so
        patient.samples.append(Sample(time.monotonic(), patient.beat, reading))
        return judge(patient.samples, self.awake_since, self.limits)

    async def treat(self, patient: Patient, verdict: Verdict) -> None:
        """Save the evidence, look once more, and do what the verdict asks for."""
        seen = await self.collect(patient, verdict)
        patient.beat = self.latest(patient.beat)
        if patient.ended.is_set() or self.judge(patient) is not verdict:
            log.info("%s: %s no more; %s", patient.beat.name, verdict, seen)
            patient.in_treatment = False
        elif verdict is Verdict.STOPPED and self.may_continue(patient):
            self.resume(patient, seen)
            patient.in_treatment = False
        else:
            await self.kill(patient, verdict, seen)

    async def collect(self, patient: Patient, verdict: Verdict) -> str:
        """Collect evidence, but not for long: who hangs in the kernel hangs readers of /proc."""
        try:
            async with asyncio.timeout(EVIDENCE_S):
                return await asyncio.to_thread(
                    evidence.collect, self.home, patient.beat, str(verdict)
                )
        except TimeoutError:
            return f"{_last_words(patient.beat)}; /proc does not answer"

    def latest(self, beat: Beat) -> Beat:
        """Return what the same incarnation says now."""
        found = heartbeat.read(self.home.beats / beat.name)
        return found if found and _same(found, beat) else beat

    def may_continue(self, patient: Patient) -> bool:
        """Tell whether it has not been continued lately; who stops again at once is replaced."""
        at = patient.continued_at
        return at is None or time.monotonic() - at > CONTINUE_ONCE_IN_S

    def resume(self, patient: Patient, seen: str) -> None:
        """Let a stopped process go on, its backend's children with it."""
        beat = patient.beat
        patient.continued_at = time.monotonic()
        patient.samples.clear()
        self.casebook.note(beat.name, Verdict.STOPPED, CONTINUED, seen, pid=beat.pid)
        signals.send_group(beat.pid, beat.started, signal.SIGCONT)

    async def kill(self, patient: Patient, verdict: Verdict, seen: str) -> None:
        """Kill the process group, see it dead, and end what it leaves behind.

        No TERM before: who has let its deadline and CANCEL pass, or whose loop stands still, would
        only make the asker wait longer. Its children are given one.
        """
        beat = patient.beat
        children = await asyncio.to_thread(orphans.find, self.marks(beat), [beat.pid])
        patient.doomed = True
        self.casebook.note(beat.name, verdict, "killed", seen, pid=beat.pid)
        signals.send_group(beat.pid, beat.started, signal.SIGKILL)
        try:
            async with asyncio.timeout(DEATH_S):
                await patient.ended.wait()
        except TimeoutError:
            # In uninterruptible sleep the signal stays pending; a second one would add nothing.
            log.error("%s: process %d does not die", beat.name, beat.pid)
        for child in await asyncio.to_thread(orphans.end, children):
            log.error("%s: child %d (%s) does not die", beat.name, child.pid, child.command)

    def marks(self, beat: Beat) -> dict[str, str]:
        """Return what every process that this one started carries in its environment."""
        return {
            "AUTOPOLL_SUPERVISED": str(self.home.supervisord_conf.parent),
            "AUTOPOLL_INSTANCE": beat.name,
        }

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

    async def pause(self) -> None:
        """Wait for the next second, or for the end."""
        try:
            async with asyncio.timeout(LOOP_S):
                await self.stopping.wait()
        except TimeoutError:
            return

    async def leave(self) -> None:
        """Give up what is under way; a successor finds all of it again."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(home: Home, limits: Limits | None = None) -> None:
    """Be the watchdog process until told to stop; raise what makes it impossible."""
    logs.setup(home.log, NAME)
    with hold(home.locks / f"{NAME}.lock", NAME), Heart.open(home.beats, NAME, NAME) as heart:
        asyncio.run(_run(home, heart, limits or Limits()))


async def _run(home: Home, heart: Heart, limits: Limits) -> None:
    await Watchdog(home, heart, limits).run()


def _is_of_this_boot(beat: Beat) -> bool:
    return beat.boot_id == boot_id()


def _same(one: Beat, other: Beat) -> bool:
    return (one.pid, one.started) == (other.pid, other.started)


def _last_words(beat: Beat) -> str:
    working = f" with request {beat.request_id}" if beat.request_id is not None else ""
    return f"last said to be {beat.state}{working}"


def _cause(status: int | None) -> str:
    if status is None:
        return "exit status unknown"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
