"""The worker: owns one warm instance, answers what comes down the pipe, and beats.

starting: lock, sweep what a dead predecessor left, warm the backend up, publish the pipes
serving:  a task per request; a broken instance is replaced here, not by a restart
draining: take nothing new, finish what is in flight, cancel the rest at the deadline
"""

import asyncio
import logging
import os
import signal
from contextlib import closing

import msgspec

from autopoll import logs
from autopoll.backends import open_backend
from autopoll.backends.contract import Backend, Broken, Permanent, Retriable, Setting
from autopoll.config import Config, context_paths
from autopoll.errors import AutopollError, ConfigError
from autopoll.home import Home, instance_name
from autopoll.lock import hold
from autopoll.message import Answer
from autopoll.process.heartbeat import Heart, State
from autopoll.process.lifeline import Lifeline
from autopoll.process.orphans import sweep
from autopoll.request import Failure, Progress, Reply, Request
from autopoll.service import nudge
from fifo import link
from fifo.errors import TooLarge

START_LIMIT_S = 60.0
BEAT_S = 1.0
PROBE_S = 10.0  # how long an idle instance may be broken before it is noticed and replaced

log = logging.getLogger(__name__)


class Worker:
    """One instance of one shard."""

    def __init__(self, home: Home, config: Config, shard: str, number: int) -> None:
        self.home = home
        self.name = instance_name(shard, number)
        self.section = config.shards[shard]
        self.drain_timeout = config.delivery.drain_timeout
        self.setting = Setting(
            shard=shard,
            root=home.root,
            context=context_paths(home, self.section),
            options=self.section.options,
        )
        self.backend: Backend = open_backend(self.section.backend, self.setting)
        self.slots = asyncio.Semaphore(self.backend.concurrency)
        self.warm = asyncio.Event()
        self.stopping = asyncio.Event()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.failure: AutopollError | None = None

    async def run(self, heart: Heart) -> None:
        """Serve until told to stop; raise Broken when the backend cannot be had."""
        self.heart = heart
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        Lifeline().attach(loop, self.stopping.set)
        self.server = link.Server(
            self.home.workers / self.name,
            credits=self.backend.concurrency,
            on_event=self.on_event,
        )
        try:
            await self.warm_up()
            await self.server.start()
            heart.state = State.IDLE
            log.info("ready: shard %s, backend %s", self.setting.shard, self.section.backend)
            probed = loop.time()
            while not self.stopping.is_set():
                heart.beat()
                if not self.tasks and loop.time() - probed > PROBE_S:
                    await self.look_after()
                    probed = loop.time()
                await _wait(self.stopping, BEAT_S)
            await self.drain()
        finally:
            # The pipes go first, so that the poller sends nothing to a backend that is gone.
            await self.server.close()
            await self.backend.stop()
        if self.failure:
            raise self.failure

    async def warm_up(self) -> None:
        """Start the backend and see it answer a probe."""
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self.backend.start()
                await self.backend.probe()
        except TimeoutError as error:
            raise Broken(f"backend not ready within {START_LIMIT_S:.0f} s") from error
        self.warm.set()

    def on_event(self, event: link.ServerEvent) -> None:
        """Take what the pipe brings."""
        match event:
            case link.PairPublished(epoch=epoch):
                self.heart.epoch = epoch
                nudge(self.home)
            case link.RequestReceived(request_id=request_id, payload=payload):
                loop = asyncio.get_running_loop()
                self.tasks[request_id] = loop.create_task(self.serve(request_id, payload))
            case link.CancelReceived(request_id=request_id):
                if known := self.tasks.get(request_id):
                    known.cancel()
            case link.ClientLeft(reason=reason):
                # Its leases are void: the next poller asks anew under a new fence.
                log.info("poller left: %s", reason)
                for running in self.tasks.values():
                    running.cancel()
            case _:
                log.info("link: %s", event)

    async def serve(self, request_id: int, payload: bytes) -> None:
        """Answer one request: whatever happens becomes exactly one REPLY or FAILURE."""
        outcome = await self.outcome(request_id, payload)
        del self.tasks[request_id]
        if isinstance(outcome, Reply):
            try:
                self.server.reply(request_id, msgspec.msgpack.encode(outcome))
                return
            except TooLarge as error:
                outcome = Failure(kind="permanent", message=f"the answer is too large: {error}")
        self.server.fail(request_id, msgspec.msgpack.encode(outcome))

    async def outcome(self, request_id: int, payload: bytes) -> Reply | Failure:
        """Turn all that can happen to a request into what is sent back."""
        try:
            request = msgspec.msgpack.decode(payload, type=Request)
            async with self.slots:
                await self.warm.wait()
                return await self.answer(request_id, request)
        except asyncio.CancelledError:
            await self.look_after()  # a cancelled instance may have ended itself
            return Failure(kind="timeout", message="cancelled at its deadline")
        except msgspec.MsgspecError as error:
            return Failure(kind="permanent", message=f"unreadable request: {error}")
        except Retriable as error:
            wait = error.retry_after_ms
            return Failure(kind="retriable", message=str(error), retry_after_ms=wait)
        except Permanent as error:
            return Failure(kind="permanent", message=str(error))
        except Exception as error:  # a backend is foreign code: whatever else it raises is Broken
            log.warning("instance broken", exc_info=error)
            self.replace()
            return Failure(kind="broken", message=f"{type(error).__name__}: {error}")

    async def answer(self, request_id: int, request: Request) -> Reply:
        """Ask the backend, beating and reporting progress."""

        def report(text: str) -> None:
            self.heart.progressed()
            self.server.progress(request_id, msgspec.msgpack.encode(Progress(text=text)))

        deadline = asyncio.get_running_loop().time() + request.timeout_ms / 1000
        self.heart.begin(request_id, deadline)
        done = False
        try:
            report("")
            if request.canary:
                await self.backend.probe()
                reply = Reply(answer=Answer(text="ok"))
            else:
                reply = await self.backend.answer(request, report)
            done = True
            return reply
        finally:
            self.heart.end(request_id, done)

    async def look_after(self) -> None:
        """Replace the instance if it cannot answer."""
        if not self.warm.is_set():
            return
        try:
            async with asyncio.timeout(BEAT_S):
                await self.backend.probe()
        except (AutopollError, TimeoutError) as error:
            log.warning("instance broken", exc_info=error)
            self.replace()

    def replace(self) -> None:
        """Throw the instance away and warm up a new one; requests wait for it meanwhile."""
        if self.warm.is_set():
            self.warm.clear()
            self.replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        try:
            await self.backend.stop()
            self.backend = open_backend(self.section.backend, self.setting)
            await self.warm_up()
        except AutopollError as error:
            # supervisord starts a new worker, under its back-off; this one has nothing to offer.
            self.failure = error
            self.stopping.set()

    async def drain(self) -> None:
        """Finish what is in flight; cancel what is not done at the deadline."""
        self.heart.state = State.DRAINING
        self.server.drain()
        running = list(self.tasks.values())
        if running and not self.failure:
            await asyncio.wait(running, timeout=self.drain_timeout)
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def run(home: Home, config: Config, shard: str, number: int) -> None:
    """Be the worker process until told to stop; raise what makes it impossible."""
    if shard not in config.shards:
        raise ConfigError(
            f"{home.config}: there is no shard {shard}", f"Known: {', '.join(config.shards)}."
        )
    name = instance_name(shard, number)
    logs.setup(home.log, name)
    with (
        hold(home.locks / f"{name}.lock", name),
        closing(Heart.open(home.beats, name, "worker")) as heart,
    ):
        # Under the lock whatever carries our name was left by a dead predecessor.
        sweep({"AUTOPOLL_SUPERVISED": str(home.supervisord_conf.parent), "AUTOPOLL_INSTANCE": name})
        os.environ["AUTOPOLL_INSTANCE"] = name
        asyncio.run(_run(home, config, shard, number, heart))


async def _run(home: Home, config: Config, shard: str, number: int, heart: Heart) -> None:
    await Worker(home, config, shard, number).run(heart)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
