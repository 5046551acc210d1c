"""The poller: takes questions off the bridge, hands them to instances, writes the answers back.

Everything that can happen (the bell, a foreign write, a frame, a timer) only notes itself and
stirs; the cycle then settles what came back and dispatches what is ready in one commit, so that
whatever arrives together is written together.
"""

import asyncio
import logging
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery, Failed, Outcome, Settled
from autopoll.bridge.renewal import Renewal
from autopoll.errors import BadQuery, BridgeBusy, BridgeError, BridgeFull, ConfigError
from autopoll.home import fingerprint, log_files
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.home.lock import hold
from autopoll.message import Answer, Query, read_query
from autopoll.poller import outcomes
from autopoll.poller.daily_budgets import Budgets
from autopoll.poller.deadline_timer import Alarm
from autopoll.poller.foreign_writes import Lookout
from autopoll.poller.in_flight import Flight
from autopoll.poller.partial_answers import Partials
from autopoll.poller.pauses import Pauses
from autopoll.poller.watchdog_guard import Guard
from autopoll.poller.workers import Roster
from autopoll.process import signals
from autopoll.process.heart import Heart
from autopoll.process.heartbeat import ProcessState
from autopoll.process.lifeline import Lifeline
from autopoll.request import Failure, Progress, Request, write
from fifo import bell, events
from fifo.exceptions import FifoError, NoCredit, NotConnected, TooLarge
from fifo.loop_bell import LoopBell

NET_S = 1.0  # the poll under bell and inotify
ANNOUNCE_S = 5.0  # how soon a partner sees a session as alive that was just served
SWEEP_S = 60.0  # how soon the bell of an asker that was killed is taken away
GAP_S = 3.0  # a longer pause of our own says nothing about others

_read_progress = msgspec.msgpack.Decoder(Progress).decode

log = logging.getLogger(__name__)


class Poller:
    """One per bridge."""

    def __init__(self, home: Home, config: Config, bridge: Bridge, heart: Heart) -> None:
        self.home = home
        self.waiters = str(home.waiters)
        self.config = config
        self.bridge = bridge
        self.heart = heart
        self.owner = secrets.token_hex(8)
        self.lease_ms = config.delivery.visibility_timeout.ms
        self.roster = Roster(home, config, self.on_event)
        self.shards, self.clients = self.roster.shards, self.roster.clients
        self.pauses = Pauses(home, config.shards)
        self.budgets = Budgets(bridge, self.pauses, config.shards)
        self.renewal = Renewal(home, bridge, config.access.token_lifetime)
        self.partials = Partials(home, redacting=config.access.redact)
        self.flights: dict[int, Flight] = {}
        self.alarm = Alarm(self.mind_flights)
        self.outcomes: list[Outcome] = []
        self.last_request = 0
        self.outages: dict[str, str] = {}  # step -> why the store refused it the last time
        self.stirred = False
        self.has_served = False
        self.draining = False
        self.crash: BaseException | None = None
        self.stopping = asyncio.Event()
        self.quiet = asyncio.Event()  # nothing in flight, nothing to settle
        self.next_lease_check = self.next_announcement = self.next_sweep = 0.0
        self.guard = Guard(home)
        self.last_tick = self.awake_since = 0.0

    async def run(self) -> None:
        """Serve until told to stop."""
        self.loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.on_crash)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        signals.let_in()
        Lifeline().attach(loop, self.stopping.set)
        self.doorbell = LoopBell(self.home.bell, self.on_bell)
        self.lookout = Lookout(self.bridge, self.stir)
        try:
            freed = self.bridge.deliveries.take_over(self.owner)
            log.info("ready: took over %d unfinished", freed)
            self.lookout.look()
            self.heart.state = ProcessState.IDLE
            self.keep_tokens()
            while not self.stopping.is_set():
                self.tick()
                await _wait(self.stopping, NET_S)
            await self.drain()
        finally:
            self.roster.close()
            self.lookout.close()
            self.doorbell.close()
        if self.crash:
            raise self.crash

    def on_crash(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End on what no callback expected: a poller that limps on would look well."""
        self.crash = context.get("exception") or RuntimeError(context["message"])
        self.stopping.set()

    def reload(self) -> None:
        """Take up changed settings in place; where that cannot be, end, to be started with them."""
        try:
            config = load(self.home)
        except ConfigError as error:
            log.warning("the settings stay as they are: %s", error)
            return
        if not fingerprint.is_same_ground(self.config, config):
            log.info("ending, to be started with new settings of the bridge")
            self.stopping.set()
            return
        self.config = config
        self.lease_ms = config.delivery.visibility_timeout.ms
        self.roster.update(config)
        self.pauses.update(config.shards)
        self.budgets.take_up(config.shards)
        self.heart.settings = fingerprint.of_poller(config)
        log.info("took up new settings; shards: %s", ", ".join(config.shards))
        self.stir()

    # --- waking

    def on_bell(self) -> None:
        """Someone has sent a message, or a worker has published its pipes."""
        for client in self.clients.values():
            if not client.connected:
                client.poke()
        self.stir()

    def tick(self) -> None:
        """Once a second: the net under every faster signal, and a look at the watchdog."""
        self.heart.beat()
        self.bridge.require_in_place()  # or end: the next poller opens what others have open
        now = self.loop.time()
        if now - self.last_tick > GAP_S:
            self.awake_since = now  # we were stopped or suspended: nobody else is to blame
        self.last_tick = now
        self.guard.look(self.awake_since)
        self.outage_guard(self.keep_budgets)
        self.keep_house()
        self.roster.let_go({flight.worker for flight in self.flights.values()})
        for client in self.clients.values():
            client.poke()
        if now >= self.next_lease_check:
            self.next_lease_check = now + self.lease_ms / 4000
            self.outage_guard(self.keep_leases)
        if now >= self.next_announcement:
            self.next_announcement = now + ANNOUNCE_S
            self.outage_guard(self.bridge.conversations.announce)
        self.stir()

    def keep_budgets(self) -> None:
        """Begin and end pauses that have to do with the time or with somebody's will."""
        self.budgets.look(self.pauses.check())

    def keep_tokens(self) -> None:
        """See that the home's own tokens do not expire, from now on."""
        self.outage_guard(self.renewal.renew_due)
        self.loop.call_later(min(NET_S, self.renewal.every_s), self.keep_tokens)

    def keep_house(self) -> None:
        """Put back what somebody took out of var/run: its folders and our bell."""
        if not (self.home.waiters.is_dir() and self.home.partials.is_dir()):
            with suppress(OSError):  # what cannot be made is missed, and named, by who needs it
                self.home.make_private()
        self.doorbell.look()
        self.lookout.look()
        if self.loop.time() >= self.next_sweep:
            self.next_sweep = self.loop.time() + SWEEP_S
            with suppress(OSError):  # the same
                bell.sweep(self.home.waiters, SWEEP_S)

    def stir(self) -> None:
        """See to it that a cycle runs, once, after everything that is readable now was read."""
        if not self.stirred:
            self.stirred = True
            self.loop.call_soon(self.cycle)

    def cycle(self) -> None:
        """Write back what came, then hand out what is ready."""
        self.stirred = False
        self.outage_guard(self.settle if self.draining else self.turn)
        if not self.flights and not self.outcomes:
            self.quiet.set()

    def outage_guard(self, step: Callable[[], None]) -> None:
        """Run a step on the store; when it is locked, full or damaged, the net tries again.

        Once it has served, to end would be no help: the next poller would meet the same store, and
        this one can say so. At the start whoever starts it reads why.
        """
        try:
            step()
            self.outages.pop(step.__name__, None)
        except BridgeError as error:
            if not (self.has_served or isinstance(error, BridgeBusy | BridgeFull)):
                raise
            if self.outages.get(step.__name__) != error.what:
                log.warning("the bridge cannot be used, trying again: %s", error)
            self.outages[step.__name__] = error.what
        slower = self.doorbell.trouble or self.lookout.trouble
        self.heart.note = next(iter(self.outages.values()), slower)
        state = ProcessState.HELD if self.outages else ProcessState.IDLE
        if self.heart.state is not state and not self.draining:
            self.heart.state = state

    def turn(self) -> None:
        """Settle what came back, and claim and send what there is room for, in one commit."""
        settled, taken = self.bridge.deliveries.settle_and_claim(
            self.outcomes, self.owner, self.room(), self.lease_ms
        )
        self.outcomes.clear()  # only now: a store that refused must get them again
        self.has_served = True
        for delivery in taken:
            self.send(delivery)
        self.tell(settled)

    def settle(self) -> None:
        """Settle what came back, and take nothing new."""
        settled = self.bridge.deliveries.settle(self.outcomes)
        self.outcomes.clear()
        self.tell(settled)

    # --- out to the instances

    def room(self) -> dict[str, int]:
        """Return how many questions each shard can take: its free credits, unless it is paused."""
        free = dict.fromkeys(self.shards.values(), 0)
        for name, shard in self.shards.items():
            free[shard] += self.clients[name].free
        self.pauses.limit(free, self.is_answering)
        return free

    def is_answering(self, shard: str) -> bool:
        """Tell whether a question is in flight to the shard."""
        return any(flight.delivery.shard == shard for flight in self.flights.values())

    def send(self, delivery: Delivery) -> None:
        """Send one delivery to the instance of its shard that has most room."""
        query = self.read(delivery)
        if query is None:
            return
        name = max(
            (name for name, shard in self.shards.items() if shard == delivery.shard),
            key=lambda name: self.clients[name].free,
        )
        limit = self.config.shards[delivery.shard].request_timeout
        request = Request(
            delivery=delivery.message_id,
            fence=delivery.fence,
            attempt=delivery.attempt,
            timeout_ms=limit.ms,
            conversation=delivery.conversation,
            question=query.question,
            context_file=query.context_file,
            canary=query.canary,
        )
        self.last_request += 1
        self.flights[self.last_request] = Flight(
            delivery, name, self.loop.time(), limit, query.canary
        )
        self.quiet.clear()
        try:
            self.clients[name].request(self.last_request, write(request))
        except (NoCredit, NotConnected) as error:  # as when the pipe is full of what went before it
            log.info("%s takes %d later: %s", name, delivery.message_id, error.what)
            self.land(self.last_request)
            self.finish(outcomes.released(delivery))
        except TooLarge as error:
            self.land(self.last_request)
            self.finish(outcomes.answered(delivery, Answer(text=error.what, error=True)))

    def read(self, delivery: Delivery) -> Query | None:
        """Return the question, or None after settling it with an answer that says what is wrong."""
        try:
            if delivery.text is None:
                limit = self.config.delivery.max_message
                raise BadQuery(f"the message is larger than {limit} bytes", "Send it in parts.")
            return read_query(delivery.text, delivery.metadata)
        except BadQuery as error:
            self.finish(outcomes.answered(delivery, Answer(text=str(error), error=True)))
            return None

    # --- back from the instances

    def on_event(self, worker: str, event: events.ClientEvent) -> None:
        """Take what a pipe brings."""
        match event:
            case events.ProgressReceived(request_id=request_id, payload=payload):
                self.on_progress(request_id, payload)
            case events.ReplyReceived(request_id=request_id, payload=payload):
                if flight := self.land(request_id):
                    self.on_reply(flight, payload)
            case events.FailureReceived(request_id=request_id, payload=payload):
                if flight := self.land(request_id):
                    self.on_failure(flight, payload)
            case events.Disconnected(reason=reason, in_flight=in_flight):
                log.warning("%s is gone: %s; %d in flight", worker, reason, len(in_flight))
                if in_flight:
                    self.heart.pipe_failed()
                for request_id in in_flight:
                    if flight := self.land(request_id):
                        begun = flight.begun is not None
                        died = f"{worker} {reason}"
                        self.finish(outcomes.worker_died(flight.delivery, died, begun=begun))
            case _:
                log.info("%s: %s", worker, event)
                if isinstance(event, events.ProtocolFault | events.Unreachable):
                    self.heart.pipe_failed()
                self.stir()

    def on_progress(self, request_id: int, payload: bytes) -> None:
        """Start the clock at the first sign of work, keep a piece, and let the asker know."""
        flight = self.flights.get(request_id)
        if flight is None:
            return
        if flight.begun is None:
            flight.begun = self.loop.time()
            self.alarm.by(flight.due)
        try:
            told = _read_progress(payload)
        except msgspec.MsgspecError as error:
            log.warning("%s tells what cannot be read: %s", flight.worker, error)
            told = Progress()  # a sign of life all the same
        delivery = flight.delivery
        more = bool(told.piece) and self.partials.add(
            delivery.message_id, delivery.attempt, told.piece
        )
        if told.text or more:
            self.ring(flight.waiter)

    def on_reply(self, flight: Flight, payload: bytes) -> None:
        """Take an answer, by which a shard on trial shows that it works again."""
        outcome = outcomes.of_reply(flight.delivery, payload)
        self.budgets.charge(flight.delivery.shard, outcome.usage)
        self.finish(outcome)
        if not flight.canary:  # which asks the instance, and not the service behind it
            self.pauses.answered(flight.delivery.shard)

    def on_failure(self, flight: Flight, payload: bytes) -> None:
        """Take a failure; pause the shard when nothing it is asked could be answered."""
        try:
            failure = msgspec.msgpack.decode(payload, type=Failure)
        except msgspec.MsgspecError as error:
            failure = Failure(kind="unreadable failure", message=str(error))
        if failure.kind == "unavailable":
            self.pauses.refused(flight.delivery.shard, failure)
        self.budgets.charge(flight.delivery.shard, failure.usage)
        self.finish(outcomes.of_failure(flight.delivery, failure))

    def mind_flights(self) -> float:
        """Tell who waits for long that work has begun, and give up what is past its deadline.

        Returns when to do so again.
        """
        now = self.loop.time()
        deaf = set()
        for request_id, flight in self.flights.items():
            if flight.due > now:
                continue
            if flight.given_up is not None:
                deaf.add(flight.worker)
            elif flight.is_late(now):
                log.warning("%s: %d is past its deadline", flight.worker, flight.message_id)
                self.give_up(request_id, flight)
            else:
                flight.told = True
                self.ring(flight.waiter)
        for worker in deaf:
            self.hang_up(worker)
        return min((flight.due for flight in self.flights.values()), default=inf)

    def give_up(self, request_id: int, flight: Flight) -> None:
        """Ask the worker to let go; when it does not, the watchdog kills it, or we hang up."""
        flight.given_up = self.loop.time()
        self.alarm.by(flight.due)
        self.roster.cancel(flight.worker, request_id)

    def hang_up(self, worker: str) -> None:
        """Give up the link to a worker that keeps what it was told to let go of.

        Nothing else would free its slots: it lives, and for the watchdog it is well. What it was at
        besides is asked anew without a failed attempt, and a late reply finds no link.
        """
        log.error("%s did not let go of a cancelled question: hanging up", worker)
        self.heart.pipe_failed()
        for request_id, flight in list(self.flights.items()):
            if flight.worker == worker:
                self.land(request_id)
                self.finish(outcomes.kept(flight.delivery, given_up=flight.given_up is not None))
        self.roster.hang_up(worker, "a cancelled request was not let go of")

    def land(self, request_id: int) -> Flight | None:
        """Take a flight out of the air; None when it was given up before."""
        flight = self.flights.pop(request_id, None)
        if flight:
            self.partials.drop(flight.delivery.message_id, flight.delivery.attempt)
        return flight

    def finish(self, outcome: Outcome) -> None:
        """Note an outcome for the next commit."""
        self.outcomes.append(outcome)
        if isinstance(outcome, Failed):
            self.loop.call_later(min(outcome.wait_ms / 1000, 60.0), self.stir)
        self.quiet.clear()
        self.stir()

    def keep_leases(self) -> None:
        """Renew what is within its time, free what is not."""
        now = self.loop.time()
        held = {
            flight.delivery.message_id: request_id
            for request_id, flight in self.flights.items()
            if now < flight.lease_end and not flight.lost
        }
        leases = [
            (flight.delivery.message_id, flight.delivery.fence)
            for flight in (self.flights[request_id] for request_id in held.values())
        ]
        kept = self.bridge.deliveries.renew(leases, self.lease_ms)
        lost = {held[message_id] for message_id in held.keys() - kept}
        reaped = self.bridge.deliveries.reap()
        gone = {settled.message_id for settled in reaped}
        for request_id, flight in list(self.flights.items()):
            if request_id in lost or (flight.message_id in gone and not flight.lost):
                log.warning("lease of %d lost", flight.message_id)
                flight.lost = True  # and still in the air, because it takes up a slot
                if flight.given_up is None:
                    self.give_up(request_id, flight)
        self.tell(reaped)

    def tell(self, settled: list[Settled]) -> None:
        """Wake the askers, each once."""
        kept = [one for one in settled if one.state != "lost"]
        if kept:
            done = sum(one.state == "done" for one in kept)
            self.heart.count(done=done, failed=len(kept) - done)
        for waiter in {one.waiter for one in kept}:
            self.ring(waiter)

    def ring(self, waiter: str | None) -> None:
        """Ring an asker's bell, if it has one and still listens; it also looks by itself."""
        if waiter:
            try:
                # No Path: it interns each name, and in 100,000 answers that table, a single
                # block of memory, was copied often enough to cost two megabytes.
                bell.ring(f"{self.waiters}/{waiter}.fifo")
            except (FifoError, OSError) as error:
                log.warning("cannot ring an asker: %s", error)

    async def drain(self) -> None:
        """Take nothing new; finish what is in flight, and give back what is not done in time."""
        self.heart.state = ProcessState.DRAINING
        self.draining = True
        self.stir()
        end = self.loop.time() + self.config.delivery.drain_timeout
        while not self.quiet.is_set() and self.loop.time() < end:
            self.tick()
            await _wait(self.quiet, NET_S)
        for request_id in list(self.flights):
            if flight := self.land(request_id):
                self.outcomes.append(outcomes.released(flight.delivery))
        self.outage_guard(self.settle)


def run(home: Home, config: Config) -> None:
    """Be the poller process until told to stop; raise what makes it impossible."""
    signals.hold_back()
    log_files.setup(home.log, "poller")
    with (
        hold(home.locks / "poller.lock", "poller"),
        Heart.open(home.beats, "poller", "poller") as heart,
    ):
        heart.settings = fingerprint.of_poller(config)
        bridge = connect(home, config)
        try:
            asyncio.run(_run(home, config, bridge, heart))
        finally:
            bridge.close()


async def _run(home: Home, config: Config, bridge: Bridge, heart: Heart) -> None:
    await Poller(home, config, bridge, heart).run()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
