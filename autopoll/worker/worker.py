"""The worker: owns one warm instance, answers what comes down the pipe, and beats.

It goes from phase to phase (see worker.phases). A broken instance is replaced here, not by a
restart of the process. One that is too old or has answered enough drains by itself, without a
deadline, and ends.
"""

import asyncio
import logging
import os

from autopoll.backends.environment import forget_bridge
from autopoll.clock import until_next
from autopoll.errors import ConfigError
from autopoll.home import fingerprint
from autopoll.home.config import Config
from autopoll.home.home import Home, instance_name
from autopoll.process import heartbeat, role
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.orphans import sweep
from autopoll.worker import reaper
from autopoll.worker.instance import Instance
from autopoll.worker.phases import PUBLISHED, SHOWN, WARM, WorkerPhase, moved
from autopoll.worker.request_server import RequestServer
from fifo.exceptions import FifoError

BEAT_S = 1.0
SETTLED_S = 5.0  # what ends within startsecs counts for supervisord as a failed start
PROBE_S = 10.0  # how long an idle instance may be broken before it is noticed and replaced

log = logging.getLogger(__name__)


class Worker:
    """One instance of one shard."""

    def __init__(self, config: Config, shard: str, instance: Instance, heart: Heart) -> None:
        self.section = config.shards[shard]
        self.drain_timeout = config.delivery.drain_timeout
        self.heart = heart
        self.phase = WorkerPhase.STARTING
        self.retired_for = ""  # why it is time for a new process
        self.stopping = asyncio.Event()
        self.news = asyncio.Event()  # the loop need not wait for its next second
        self.instance = instance
        self.instance.on_broken = self.on_broken
        self.requests = RequestServer(
            instance.home, instance, heart, self.stopping, self.retire_if_due
        )
        self.probed = 0.0

    async def run(self) -> None:
        """Serve until asked to stop, whatever becomes of the backend."""
        self.loop = asyncio.get_running_loop()
        reaper.attach(self.loop)
        role.end_by(self.stop)
        self.born = self.loop.time()
        try:
            while not self.stopping.is_set():
                self.heart.beat()
                wait, why = self.instance.obstacle()
                if self.phase in WARM:
                    await self.tend()
                elif wait:
                    await self.hold(wait, why)
                else:
                    await self.start()
            if self.phase not in WARM and not self.retired_for:  # held, or on trial after that
                self.instance.forget_crashes()  # a worker that is started again by hand is to try
            self.enter(WorkerPhase.DRAINING)
            await self.requests.drain(self.drain_timeout)
        finally:
            # The pipes go first, so that the poller sends nothing to a backend that is gone.
            await self.requests.close()
            await self.instance.backend.stop()
        if self.retired_for:
            self.heart.note = self.retired_for
            self.heart.close(ProcessState.RETIRED)

    def enter(self, phase: WorkerPhase) -> None:
        """Move to a phase and show it; RuntimeError when it cannot follow."""
        self.phase = moved(self.phase, phase)
        self.heart.state = SHOWN[phase]

    def stop(self) -> None:
        """End as soon as what is in flight is done."""
        self.stopping.set()
        self.news.set()

    async def hold(self, wait: float, why: str) -> None:
        """Wait for a second, or what is left of the time, with neither backend nor pipes."""
        if self.phase is not WorkerPhase.HELD:
            self.heart.state = ProcessState.DRAINING
            await self.instance.backend.stop()
            await self.requests.withdraw()
            self.instance.record_hold()
            log.warning("%s", why)
        self.heart.note = why  # before the state, so that a reader of it finds the reason
        self.enter(WorkerPhase.HELD)
        await role.pause(self.news, min(BEAT_S, wait))

    async def start(self) -> None:
        """Start an instance and publish the pipes; give up when asked to stop."""
        if self.phase is not WorkerPhase.REPLACING:
            self.enter(WorkerPhase.STARTING)
        starting = self.loop.create_task(self.instance.start())
        stopping = self.loop.create_task(self.stopping.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (starting, stopping):
            task.cancel()
        await asyncio.wait([starting, stopping])
        if starting.cancelled():
            return
        if not (starting.result() and await self.publish()):
            self.heart.note = self.instance.note or self.heart.note
            return
        self.instance.ready()
        self.probed = self.loop.time()
        self.heart.note = ""
        self.enter(WorkerPhase.RETIRING if self.retired_for else WorkerPhase.SERVING)

    async def publish(self) -> bool:
        """Make the pipes, unless they are there; return whether they are."""
        try:
            if self.phase not in PUBLISHED:
                await self.requests.publish()
        except FifoError as error:
            log.warning("the pipes cannot be made: %s", error)
            self.instance.crashed(error)
            return False
        return True

    async def tend(self) -> None:
        """Look after the instance and wait for a second, or until something has happened."""
        if not self.requests.in_flight and self.loop.time() - self.probed > PROBE_S:
            await self.instance.probe()
            self.probed = self.loop.time()
        self.instance.keep_remarks()
        self.retire_if_due()
        await role.pause(self.news, until_next(BEAT_S, self.loop.time()))

    def on_broken(self) -> None:
        """Have the instance replaced behind the pipes."""
        self.heart.note = self.instance.note
        if self.phase in WARM:
            self.enter(WorkerPhase.REPLACING)
        self.news.set()

    def retire_if_due(self) -> None:
        """Take nothing new once a new process is due, and end when nothing is in flight."""
        if self.stopping.is_set() or self.phase not in PUBLISHED:
            return
        if not self.retired_for and (why := self.reason_to_retire()):
            self.retired_for = why
            log.info("%s", why)
            self.requests.take_nothing_new()  # each request in flight has a deadline of its own
            if self.phase is WorkerPhase.SERVING:
                self.enter(WorkerPhase.RETIRING)
        if self.retired_for and not self.requests.in_flight:
            self.stop()

    def reason_to_retire(self) -> str:
        """Return why there should be a new process; empty while there should not."""
        age, section = self.loop.time() - self.born, self.section
        if age < SETTLED_S:
            return ""
        if section.max_requests and self.requests.answered >= section.max_requests:
            return f"after {self.requests.answered} answers, max_requests is {section.max_requests}"
        if section.max_age and age > section.max_age:
            return f"after {age:.0f} s, max_age is {section.max_age:g} s"
        return ""


def run(home: Home, config: Config, shard: str, number: int) -> None:
    """Be the worker process until asked to stop; raise what makes it impossible."""
    if shard not in config.shards:
        raise ConfigError(
            f"{home.config}: there is no shard {shard}", f"Known: {', '.join(config.shards)}."
        )
    name = instance_name(shard, number)
    with role.alone(home, name):
        if config.bridge.url.is_server:
            forget_bridge(os.environ, config.shards[shard].options)
        instance = Instance(home, config, shard, name)
        before = heartbeat.read(home.beats / name)
        with Heart.open(home.beats, name, "worker") as heart:
            heart.settings = fingerprint.of_worker(config, shard)
            # Under the lock whatever carries our name was left by a predecessor that is gone.
            tree = str(home.supervisord_conf.parent)
            marks = {"AUTOPOLL_SUPERVISED": tree, "AUTOPOLL_INSTANCE": name}
            sweep(marks, spare=[os.getppid()])  # a shell in the command of the program
            os.environ["AUTOPOLL_INSTANCE"] = name
            if before:
                instance.learn(before, crashed=heart.crashed != 0)
            asyncio.run(Worker(config, shard, instance, heart).run())
