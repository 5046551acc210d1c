"""The requests of a worker: what comes through the pipes, a task each, and what goes back."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from autopoll.backends.contract import Broken, Mistaken, Permanent, Retriable, Unavailable
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.nudge import nudge
from autopoll.request import Failure, Reply, Request, write
from autopoll.worker.backend_errors import failure_of, text_of
from autopoll.worker.instance import Instance
from autopoll.worker.progress import Reporter
from fifo import events
from fifo.exceptions import FifoError, TooLarge
from fifo.server_end import ServerEnd

_read_request = msgspec.msgpack.Decoder(Request).decode

log = logging.getLogger(__name__)


class RequestServer:
    """The worker's end of the pipes; whatever happens to a request, it gets one REPLY or FAILURE.

    `stopping` says that the worker is to end: what is cancelled from then on has not failed.
    """

    def __init__(
        self,
        home: Home,
        instance: Instance,
        heart: Heart,
        stopping: asyncio.Event,
        on_ended: Callable[[], None],
    ) -> None:
        self.answered = 0
        self.in_flight: dict[int, asyncio.Task[None]] = {}
        self._home = home
        self._instance = instance
        self._heart = heart
        self._stopping = stopping
        self._on_ended = on_ended
        self._slots = asyncio.Semaphore(instance.backend.concurrency)
        self._pipes = self._new_pipes()

    def _new_pipes(self) -> ServerEnd:
        return ServerEnd(
            self._home.workers / self._instance.name,
            credits=self._instance.backend.concurrency,
            on_event=self.on_event,
        )

    async def publish(self) -> None:
        """Make the pipes, so that the poller connects; raises FifoError."""
        await self._pipes.start()

    def take_nothing_new(self) -> None:
        """Have the poller send nothing more; what is in flight goes on."""
        self._pipes.drain()

    async def drain(self, timeout: float) -> None:
        """Take nothing new, finish what is in flight, and cancel what is not done in time."""
        self.take_nothing_new()
        running = list(self.in_flight.values())
        if running and self._instance.warm.is_set():
            await asyncio.wait(running, timeout=timeout)
        await self._cancel_all()

    async def withdraw(self) -> None:
        """Take the pipes away until `publish`: the poller keeps all without a failed attempt."""
        await self.close()
        await self._cancel_all()
        self._pipes = self._new_pipes()

    async def close(self) -> None:
        """Take the pipes away."""
        await self._pipes.close()

    async def _cancel_all(self) -> None:
        running = dict(self.in_flight)
        for request_id in running:
            self._cancel(request_id)
        await asyncio.gather(*running.values(), return_exceptions=True)

    def on_event(self, event: events.ServerEvent) -> None:
        """Take what the pipe brings."""
        match event:
            case events.RequestReceived(request_id=request_id, payload=payload):
                serving = asyncio.get_running_loop().create_task(self._serve(request_id, payload))
                self.in_flight[request_id] = serving
            case events.PairPublished(epoch=epoch):
                self._heart.epoch = epoch
                nudge(self._home)
            case events.CancelReceived(request_id=request_id):
                if request_id in self.in_flight:
                    self._heart.cancel(request_id)
                    self._cancel(request_id)
            case events.ClientLeft(reason=reason):
                # Its leases are void: the next poller asks again under a new fence.
                log.info("poller left: %s", reason)
                for request_id in self.in_flight:
                    self._cancel(request_id)
            case _:
                log.info("link: %s", event)

    def _cancel(self, request_id: int) -> None:
        """Cancel a request; it ends here when it has not begun, for then `_serve` never runs."""

        def ended(_: asyncio.Task[None]) -> None:
            if request_id in self.in_flight:
                kind = "draining" if self._stopping.is_set() else "timeout"
                self._fail(request_id, kind, "cancelled before it was begun")
                self._end(request_id)

        task = self.in_flight[request_id]
        task.add_done_callback(ended)
        task.cancel()

    def _end(self, request_id: int) -> None:
        """Let go of a request whose outcome was sent."""
        del self.in_flight[request_id]
        self._on_ended()

    def _fail(self, request_id: int, kind: str, message: str) -> None:
        """Send a failure in our own words, which can always be sent."""
        try:
            self._pipes.fail(request_id, write(Failure(kind=kind, message=message)))
        except (FifoError, OSError) as error:  # the poller gives up a link that says nothing
            log.error("the failure of request %d cannot be sent: %s", request_id, error)

    async def _serve(self, request_id: int, payload: bytes) -> None:
        """Answer one request; it has failed when there is no outcome, whatever was raised."""
        try:
            self._send(request_id, await self._outcome(request_id, payload))
        except BaseException as error:  # the code of a backend is foreign
            log.error("request %d ended without an outcome", request_id, exc_info=error)
            self._fail(request_id, "broken", f"{type(error).__name__} while it was answered")
            self._instance.broke(error)
        # Not as a callback of the task, which would take one more turn of the loop.
        self._end(request_id)

    def _send(self, request_id: int, outcome: Reply | Failure) -> None:
        """Send an outcome, or that it cannot be sent."""
        try:
            if isinstance(outcome, Reply):
                self._pipes.reply(request_id, write(outcome))
            else:
                self._pipes.fail(request_id, write(outcome))
        except TooLarge as error:
            self._fail(request_id, "permanent", f"the answer is too large: {error}")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._fail(request_id, "permanent", f"what the backend said cannot be sent: {error}")

    async def _outcome(self, request_id: int, payload: bytes) -> Reply | Failure:
        """Turn all that can happen to a request into what is sent back."""
        try:
            request = _read_request(payload)
            async with self._slots:
                await self._instance.warm.wait()
                return await self._answer(request_id, request)
        except asyncio.CancelledError:
            if self._stopping.is_set():
                return Failure(kind="draining", message="cancelled when the worker had to end")
            return Failure(kind="timeout", message="cancelled at its deadline")
        except msgspec.MsgspecError as error:
            return Failure(kind="permanent", message=f"unreadable request: {error}")
        except Mistaken as error:
            return Reply(answer=Answer(text=str(error), error=True), usage=error.usage)
        except (Retriable, Permanent, Unavailable) as error:
            return failure_of(error)
        except (Exception, SystemExit) as error:  # whatever else foreign code raises is Broken
            log.warning("the instance broke", exc_info=error)
            self._instance.broke(error)
            usage = error.usage if isinstance(error, Broken) else None
            message = f"{type(error).__name__}: {text_of(error)}"
            return Failure(kind="broken", message=message, usage=usage)

    async def _answer(self, request_id: int, request: Request) -> Reply:
        """Ask the backend; the heartbeat shows the request, and the poller its progress."""
        backend = self._instance.backend
        report = Reporter(self._heart, self._pipes, request_id)
        deadline = asyncio.get_running_loop().time() + request.timeout_ms / 1000
        self._heart.begin(request_id, deadline, request.delivery)
        done = False
        try:
            report.begun()
            if request.canary:
                await backend.probe()
                reply = Reply(answer=Answer(text="ok"))
            else:
                reply = await backend.answer(request, report)
            done = True
            self.answered += 1
            return reply
        except asyncio.CancelledError:
            # A cancelled instance may have ended itself. The heartbeat still shows the request, so
            # that the watchdog sees what keeps us.
            await self._instance.probe()
            raise
        finally:
            report.close()
            self._heart.end(request_id, done)
