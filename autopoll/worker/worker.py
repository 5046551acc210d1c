"""The worker: owns one warm instance, answers what comes down the pipe, and beats.

starting: lock, sweep what a dead predecessor left, warm the backend up, publish the pipes
serving:  a task per request; a broken instance is replaced here, not by a restart
held:     kept from trying again, without pipes, so that questions wait in the bridge untouched
draining: take nothing new, finish what is in flight, cancel the rest at the deadline

An instance that is too old or has answered enough drains by itself, without a deadline, and ends.

An instance that does not start, one that breaks, and a worker that died are crashes of one budget
(see process.gate). Through the first two the process stays up, so that supervisord never counts
them: it would give up for good, or, after three seconds of life, restart without any pause.
"""

import asyncio
import logging
import os

import msgspec

from autopoll.backends import open_backend
from autopoll.backends.context.remarks import NOTHING, Remarks, keep
from autopoll.backends.contract import (
    Backend,
    Broken,
    Mistaken,
    Permanent,
    Retriable,
    Setting,
    Unavailable,
)
from autopoll.errors import AutopollError, ConfigError
from autopoll.home import fingerprint
from autopoll.home.config import Config, context_paths
from autopoll.home.home import Home, instance_name
from autopoll.message import Answer
from autopoll.process import heartbeat, pause, role
from autopoll.process.heartbeat import Beat, Heart, ProcessState
from autopoll.process.orphans import sweep
from autopoll.process.pause import Pause
from autopoll.process.restart_gate import Gate
from autopoll.process.waiter import nudge
from autopoll.redact.redact import redact
from autopoll.request import Failure, Reply, Request, write
from autopoll.text import valid
from autopoll.worker import reaper
from autopoll.worker.progress import Reporter
from fifo import events
from fifo.exceptions import FifoError, TooLarge
from fifo.server_end import ServerEnd

START_LIMIT_S = 60.0
BEAT_S = 1.0
SETTLED_S = 5.0  # what ends within startsecs counts for supervisord as a failed start
LONGEST_ERROR = 16 * 1024  # characters of an error's words that are told
PROBE_S = 10.0  # how long an idle instance may be broken before it is noticed and replaced

_read_request = msgspec.msgpack.Decoder(Request).decode

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
        self.server = self.new_server()
        self.published = False
        self.gate = Gate(home.gates / self.name, home.incidents)
        self.refusal: Pause | None = None  # of the last start, by the service behind the backend
        self.warm = asyncio.Event()
        self.news = asyncio.Event()  # the loop need not wait for its next second
        self.stopping = asyncio.Event()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.probed = 0.0
        self.answered = 0
        self.worn = ""  # why it is time for a new incarnation
        self.remarks: Remarks | None = None  # of the backend on its files, as they are kept

    async def run(self, heart: Heart) -> None:
        """Serve until told to stop, whatever becomes of the backend."""
        self.heart = heart
        self.loop = asyncio.get_running_loop()
        reaper.attach(self.loop)
        role.end_by(self.stop)
        self.born = self.loop.time()
        try:
            while not self.stopping.is_set():
                heart.beat()
                wait, why = self.obstacle()
                if wait:
                    await self.hold(wait, why)
                elif not self.warm.is_set():
                    await self.start()
                else:
                    await self.tend()
            if not self.warm.is_set() and not self.worn:  # held, or on trial after that
                self.gate.open()  # who stops it and starts it again wants it to try
            await self.drain()
        finally:
            # The pipes go first, so that the poller sends nothing to a backend that is gone.
            await self.server.close()
            await self.backend.stop()
        if self.worn:
            heart.note = self.worn
            heart.close(ProcessState.RETIRED)

    def stop(self) -> None:
        """End as soon as what is in flight is done."""
        self.stopping.set()
        self.news.set()

    def new_server(self) -> ServerEnd:
        """Return the worker's end of a pair that is not published yet."""
        return ServerEnd(
            self.home.workers / self.name,
            credits=self.backend.concurrency,
            on_event=self.on_event,
        )

    # --- the turns of the loop

    def obstacle(self) -> tuple[float, str]:
        """Return for how many seconds no instance may be started, and why; 0 when one may."""
        if wait := self.gate.wait:
            return wait, self.gate.words
        if self.refusal and (wait := self.refusal.left_s):
            return wait, self.refusal.words
        return 0.0, ""

    async def hold(self, wait: float, why: str) -> None:
        """Wait for a second, or what is left of the time, with neither backend nor pipes."""
        if self.heart.state is not ProcessState.HELD:
            await self.withdraw()
            if self.gate.wait:
                self.gate.held()
            log.warning("%s", why)
        self.heart.note = why  # before the state: whoever sees it held shall see why
        self.heart.state = ProcessState.HELD
        await self.pause(min(BEAT_S, wait))

    async def withdraw(self) -> None:
        """Leave what waits here to the poller, which keeps it without a failed attempt."""
        self.heart.state = ProcessState.DRAINING
        await self.backend.stop()
        await self.server.close()
        await self.cancel_all()
        self.server, self.published = self.new_server(), False

    async def start(self) -> None:
        """Warm an instance up and publish the pipes; give up when told to stop."""
        self.heart.state = ProcessState.STARTING
        warming = self.loop.create_task(self.warm_up())
        stopping = self.loop.create_task(self.stopping.wait())
        await asyncio.wait([warming, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (warming, stopping):
            task.cancel()
        await asyncio.wait([warming, stopping])
        if warming.cancelled() or not warming.result():
            return
        try:
            if not self.published:
                await self.server.start()
                self.published = True
        except FifoError as error:
            log.warning("the pipes cannot be made: %s", error)
            self.crashed(error)
            return
        self.gate.passed()
        if self.refusal:
            pause.end(self.home, self.refusal)
            self.refusal = None
        self.keep_remarks()
        self.warm.set()
        self.probed = self.loop.time()
        self.heart.note = ""
        self.heart.state = ProcessState.IDLE
        log.info("ready: shard %s, backend %s", self.setting.shard, self.section.backend)

    async def warm_up(self) -> bool:
        """Put a new instance in the place of the old one and see it answer a probe."""
        try:
            await self.backend.stop()
            self.backend = open_backend(self.section.backend, self.setting)
            async with asyncio.timeout(START_LIMIT_S):
                await self.backend.start()
                await self.backend.probe()
        except Unavailable as error:
            self.refusal = pause.begin(self.home, self.name, _failure(error), self.refusal)
        except TimeoutError:
            self.crashed(Broken(f"backend not ready within {START_LIMIT_S:.0f} s"))
        except (Exception, SystemExit) as error:  # a backend is foreign code
            log.warning("the instance does not start", exc_info=error)
            self.crashed(error)
        else:
            return True
        return False

    async def tend(self) -> None:
        """Look after the instance and wait for a second, or until something has happened."""
        if not self.tasks and self.loop.time() - self.probed > PROBE_S:
            await self.look_after()
            self.probed = self.loop.time()
        self.keep_remarks()
        self.retire_if_due()
        await self.pause(BEAT_S)

    def keep_remarks(self) -> None:
        """Keep what the backend says about its files, for `status` and `health`, if it is new."""
        remarks = getattr(self.backend, "remarks", NOTHING)
        if remarks == self.remarks or not isinstance(remarks, Remarks):
            return
        try:
            keep(self.home.remarks / self.name, remarks)
        except OSError as error:
            log.warning("what is to be said about the files cannot be kept: %s", error)
        self.remarks = remarks

    def retire_if_due(self) -> None:
        """Take nothing new once it is worn, and end when nothing is left in hand."""
        if self.stopping.is_set():
            return
        if not self.worn and (worn := self.wear()):
            self.worn = worn
            log.info("%s", worn)
            self.heart.state = ProcessState.DRAINING
            self.server.drain()  # without a deadline: each request in flight has its own
        if self.worn and not self.tasks:
            self.stop()

    def wear(self) -> str:
        """Return why there should be a new incarnation; empty while there should not."""
        age, section = self.loop.time() - self.born, self.section
        if age < SETTLED_S:
            return ""
        if section.max_requests and self.answered >= section.max_requests:
            return f"after {self.answered} answers, max_requests is {section.max_requests}"
        if section.max_age and age > section.max_age:
            return f"after {age:.0f} s, max_age is {section.max_age:g} s"
        return ""

    async def look_after(self) -> None:
        """Have the instance replaced if it cannot answer."""
        if not self.warm.is_set():
            return
        try:
            async with asyncio.timeout(BEAT_S):
                await self.backend.probe()
        except Unavailable as error:
            log.info("the next question will be told: %s", error)
        except (Exception, SystemExit) as error:
            log.warning("the instance does not answer", exc_info=error)
            self.broke(error)

    def broke(self, error: BaseException) -> None:
        """Have the instance replaced as soon as it may be; requests wait for the new one."""
        if self.warm.is_set():
            self.warm.clear()
            self.crashed(error)
            self.news.set()

    def crashed(self, error: BaseException) -> None:
        """Count a crash of the instance, and say so until there is one that works."""
        self.heart.note = redact(_words(error))
        self.gate.crashed(self.heart.note)

    async def pause(self, seconds: float) -> None:
        """Wait for so long, or until there is news."""
        if await role.wait(self.news, seconds):
            self.news.clear()

    # --- requests

    def on_event(self, event: events.ServerEvent) -> None:
        """Take what the pipe brings."""
        match event:
            case events.RequestReceived(request_id=request_id, payload=payload):
                task = self.loop.create_task(self.serve(request_id, payload))
                # Not in `serve`, which never runs when it is cancelled at once.
                task.add_done_callback(lambda ended: self.land(request_id, ended))
                self.tasks[request_id] = task
            case events.PairPublished(epoch=epoch):
                self.heart.epoch = epoch
                nudge(self.home)
            case events.CancelReceived(request_id=request_id):
                if known := self.tasks.get(request_id):
                    known.cancel()
            case events.ClientLeft(reason=reason):
                # Its leases are void: the next poller asks anew under a new fence.
                log.info("poller left: %s", reason)
                for running in self.tasks.values():
                    running.cancel()
            case _:
                log.info("link: %s", event)

    def land(self, request_id: int, ended: asyncio.Task[None]) -> None:
        """Let go of a request; one that ended without a word has failed, whatever ended it."""
        self.tasks.pop(request_id, None)
        if ended.cancelled():
            kind = "draining" if self.stopping.is_set() else "timeout"
            self.fail(request_id, kind, "cancelled before its failure was told")
        elif error := ended.exception():
            log.error("request %d ended without an outcome", request_id, exc_info=error)
            self.fail(request_id, "broken", f"{type(error).__name__} while it was answered")
            self.broke(error)
        self.retire_if_due()

    def fail(self, request_id: int, kind: str, message: str) -> None:
        """Tell a failure in our own words, which can always be sent."""
        try:
            self.server.fail(request_id, write(Failure(kind=kind, message=message)))
        except (FifoError, OSError) as error:  # the poller gives up a link that says nothing
            log.error("the failure of request %d cannot be told: %s", request_id, error)

    async def serve(self, request_id: int, payload: bytes) -> None:
        """Answer one request: whatever happens becomes exactly one REPLY or FAILURE.

        What is raised here all the same, `land` makes a FAILURE of.
        """
        outcome = await self.outcome(request_id, payload)
        try:
            if isinstance(outcome, Reply):
                self.server.reply(request_id, write(outcome))
            else:
                self.server.fail(request_id, write(outcome))
        except TooLarge as error:
            self.fail(request_id, "permanent", f"the answer is too large: {error}")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self.fail(request_id, "permanent", f"what the backend said cannot be sent: {error}")

    async def outcome(self, request_id: int, payload: bytes) -> Reply | Failure:
        """Turn all that can happen to a request into what is sent back."""
        try:
            request = _read_request(payload)
            async with self.slots:
                await self.warm.wait()
                return await self.answer(request_id, request)
        except asyncio.CancelledError:
            if self.stopping.is_set():
                return Failure(kind="draining", message="cancelled when the worker had to end")
            return Failure(kind="timeout", message="cancelled at its deadline")
        except msgspec.MsgspecError as error:
            return Failure(kind="permanent", message=f"unreadable request: {error}")
        except Mistaken as error:
            return Reply(answer=Answer(text=str(error), error=True), usage=error.usage)
        except (Retriable, Permanent, Unavailable) as error:
            return _failure(error)
        except (Exception, SystemExit) as error:  # whatever else foreign code raises is Broken
            log.warning("the instance broke", exc_info=error)
            self.broke(error)
            usage = error.usage if isinstance(error, Broken) else None
            message = f"{type(error).__name__}: {_said(error)}"
            return Failure(kind="broken", message=message, usage=usage)

    async def answer(self, request_id: int, request: Request) -> Reply:
        """Ask the backend, beating and reporting progress."""
        report = Reporter(self.heart, self.server, request_id)
        deadline = self.loop.time() + request.timeout_ms / 1000
        self.heart.begin(request_id, deadline)
        done = False
        try:
            report.begun()
            if request.canary:
                await self.backend.probe()
                reply = Reply(answer=Answer(text="ok"))
            else:
                reply = await self.backend.answer(request, report)
            done = True
            self.answered += 1
            return reply
        except asyncio.CancelledError:
            # A cancelled instance may have ended itself. The heartbeat still shows the request, so
            # that the watchdog sees whom this keeps.
            await self.look_after()
            raise
        finally:
            report.close()
            self.heart.end(request_id, done)

    async def drain(self) -> None:
        """Finish what is in flight; cancel what is not done at the deadline."""
        self.heart.state = ProcessState.DRAINING
        self.server.drain()
        running = list(self.tasks.values())
        if running and self.warm.is_set():
            await asyncio.wait(running, timeout=self.drain_timeout)
        await self.cancel_all()

    async def cancel_all(self) -> None:
        """Have every request come to its end now."""
        running = list(self.tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def run(home: Home, config: Config, shard: str, number: int) -> None:
    """Be the worker process until told to stop; raise what makes it impossible."""
    if shard not in config.shards:
        raise ConfigError(
            f"{home.config}: there is no shard {shard}", f"Known: {', '.join(config.shards)}."
        )
    name = instance_name(shard, number)
    with role.alone(home, name):
        worker = Worker(home, config, shard, number)
        before = heartbeat.read(home.beats / name)
        with Heart.open(home.beats, name, "worker") as heart:
            heart.settings = fingerprint.of_worker(config, shard)
            # Under the lock whatever carries our name was left by a dead predecessor.
            tree = str(home.supervisord_conf.parent)
            marks = {"AUTOPOLL_SUPERVISED": tree, "AUTOPOLL_INSTANCE": name}
            sweep(marks, spare=[os.getppid()])  # a shell in the command of the program
            os.environ["AUTOPOLL_INSTANCE"] = name
            if before:
                _learn(worker, before, heart)
            asyncio.run(worker.run(heart))


def _learn(worker: Worker, before: Beat, heart: Heart) -> None:
    """Draw the conclusion from how the incarnation before ended."""
    if heart.crashed and before.state is not ProcessState.HELD:  # then nothing had been tried
        said = f": {before.note}" if before.note else ""
        worker.gate.crashed(f"process {before.pid} ended while {before.state}{said}")
    elif before.state is ProcessState.STOPPED:
        pause.restarted(worker.home, worker.setting.shard)  # somebody wants it to try again


def _failure(error: Retriable | Permanent | Unavailable) -> Failure:
    match error:
        case Retriable():
            return Failure(
                kind="retriable",
                message=_said(error),
                retry_after_ms=error.retry_after_ms,
                usage=error.usage,
            )
        case Unavailable():
            return Failure(
                kind="unavailable",
                message=_said(error),
                retry_after_ms=error.resume_after_ms,
                cause=error.kind,
                usage=error.usage,
            )
        case Permanent():
            return Failure(kind="permanent", message=_said(error), usage=error.usage)


def _words(error: BaseException) -> str:
    known = isinstance(error, AutopollError | FifoError)
    return _said(error) if known else f"{type(error).__name__}: {_said(error)}"


def _said(error: BaseException) -> str:
    """Return the words of an error, of which foreign code may have made anything."""
    try:
        return valid(str(error))[:LONGEST_ERROR]
    except (Exception, SystemExit) as worse:  # its own __str__
        log.warning("an error that cannot say what it is", exc_info=worse)
        return f"it cannot say what it is: {type(worse).__name__}"
