"""The poller: takes questions off the bridge, sends them to workers, writes the answers back.

Whatever happens (the bell, a foreign write, a frame, a timer) is only noted, and wakes the loop.
Each turn of the loop then stores what askers sent, settles what came back and claims what is ready
in one commit, so that whatever arrives together is written together.
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Failed, Outcome, Settled
from autopoll.errors import BridgeError, ConfigError
from autopoll.home import fingerprint
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.poller.answers_elsewhere import AnswersElsewhere
from autopoll.poller.asked_questions import AskedQuestions
from autopoll.poller.asker_listener import AskerListener
from autopoll.poller.daily_budgets import DailyBudgets
from autopoll.poller.hand_over import HandedOver
from autopoll.poller.in_flight import InFlight
from autopoll.poller.lease_owner import LeaseOwner
from autopoll.poller.outages import Outages
from autopoll.poller.partial_answers import PartialAnswers
from autopoll.poller.pauses import Pauses
from autopoll.poller.pruning import Pruning
from autopoll.poller.replies import Replies
from autopoll.poller.schedule import Schedule
from autopoll.poller.successor import Successor
from autopoll.poller.upkeep import Upkeep
from autopoll.poller.wakers import Wakers
from autopoll.poller.watchdog_guard import WatchdogGuard
from autopoll.poller.workers import Workers
from autopoll.process import role
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.signals import HAND_OVER

CHECK_S = 1.0  # how long a question can go unnoticed when bell and inotify are missing
LONGEST_WAIT_S = 60.0  # until a failed question is looked for, however far off its next attempt is

log = logging.getLogger(__name__)


class Poller:
    """The parts of one poller and its loop; made inside the running event loop."""

    def __init__(
        self,
        home: Home,
        config: Config,
        bridge: Bridge,
        heart: Heart,
        handed: HandedOver | None = None,
    ) -> None:
        self.home = home
        self.config = config
        self.bridge = bridge
        self.heart = heart
        self.handed = handed  # by the program that this process was before
        self.ground = fingerprint.of_ground(config)
        self.stopping = False
        self.crash: BaseException | None = None
        self.was_away = False  # the server of the store
        self.schedule = Schedule(self.wake)
        self.outages = Outages(heart.beat, self.on_away)
        self.workers = Workers(home, config, heart, lambda *event: self.replies.receive(*event))
        partial_answers = PartialAnswers(redacting=config.access.redact)
        self.questions = AskedQuestions(partial_answers, config.delivery.max_message, self.wake)
        self.in_flight = InFlight(
            home, config, self.workers, self.questions, partial_answers, self.add_outcome
        )
        self.answers_elsewhere = AnswersElsewhere(
            self.questions, self.in_flight, self.wake, shared=config.bridge.url.is_server
        )
        self.leases = LeaseOwner(bridge.deliveries, self.in_flight, heart.beat)
        self.pauses = Pauses(home, config.shards)
        self.budgets = DailyBudgets(bridge, self.pauses, config.shards)
        self.replies = Replies(self.in_flight, self.pauses, self.budgets, self.wake)
        self.watchdog_guard = WatchdogGuard(home)
        self.successor = Successor(
            home,
            heart,
            self.workers,
            self.in_flight,
            self.leases,
            self.ground,
            self.wake,
            self.stop,
        )
        # Last: only `run` takes these away.
        self.wakers = Wakers(home, bridge, self.on_bell, self.on_foreign_write)
        self.listener = AskerListener(home.poller_socket, self.questions.accept)
        pruning = Pruning(config, bridge.retention, self.wakers.wake_in, self.is_busy)
        self.upkeep = Upkeep(home, config, bridge, self.outages, pruning)

    async def run(self) -> None:
        """Serve until asked to stop; raises what nobody expected, after the drain."""
        try:
            self.start()
            with self.crash_noted():
                while not self.stopping:
                    self.run_once()
                    self.successor.take_over_if_due()
                    await self.wakers.wait()
            await self.drain()
        finally:
            self.listener.close()
            self.questions.close()
            self.schedule.close()
            self.workers.close()
            self.wakers.close()
        if self.crash:
            raise self.crash

    def run_once(self) -> None:
        """Check what is due; store, settle and claim in one commit; send, and notify."""
        self.schedule.run_due()
        if self.questions.have_arrived:
            self.bridge.require_in_place()  # or end, before they are stored where nobody looks
        with self.outages.tolerated("settle and claim"):
            if self.was_away:  # and may be another, without the last commits of the one before
                self.questions.restart(self.bridge.messages.newest())
                self.was_away = False
            claimed_at = asyncio.get_running_loop().time()
            with self.questions.taken(self.bridge.conversations) as arrivals:
                stored, settled, claimed = self.leases.commit_turn(arrivals, self.room())
            if stored or settled or claimed:
                self.wakers.committed(news=bool(stored or settled))
            self.outages.has_served = True
            for delivery in claimed:
                self.in_flight.send(delivery, claimed_at)
            self.questions.committed(stored)
            self.notify(settled)
            self.questions.look_up(self.bridge.messages)
            if self.answers_elsewhere.is_expected:
                self.leases.check()
            self.answers_elsewhere.look_up(self.bridge.messages)
        self.questions.flush()
        self.upkeep.prune_due()
        self.report()

    def is_busy(self) -> bool:
        """Tell whether questions are under way."""
        return bool(self.in_flight) or self.questions.have_arrived or self.leases.has_unsettled

    def room(self) -> dict[str, int]:
        """Return how many questions to claim for each shard: its credits, unless it is paused."""
        room = self.workers.credits()
        self.pauses.limit(room, self.in_flight.is_answering)
        return room

    async def drain(self) -> None:
        """Claim nothing new; finish what is in flight, and give back what is not done in time."""
        self.stopping = True
        self.listener.close()
        self.questions.drain()
        self.heart.state = ProcessState.DRAINING
        loop = asyncio.get_running_loop()
        end = loop.time() + self.config.delivery.drain_timeout
        with self.crash_noted():
            self.settle()
        while (self.in_flight or self.leases.has_unsettled) and loop.time() < end:
            await self.wakers.wait()
            with self.crash_noted():
                self.schedule.run_due()
                self.settle()
        self.in_flight.release_all()
        with self.crash_noted():
            self.settle()
            with self.outages.tolerated("leave"):
                self.leases.leave()

    def settle(self) -> None:
        """Write what came back, and claim nothing."""
        with self.outages.tolerated("settle"):
            self.notify(self.leases.settle())
            self.questions.look_up(self.bridge.messages)
        self.questions.flush()
        self.report()

    def notify(self, settled: list[Settled]) -> None:
        """Count what was settled, and notify its followers."""
        kept = [each for each in settled if each.state != "lost"]
        if len(kept) < len(settled):
            self.answers_elsewhere.expect()
        if kept:
            done = sum(each.state == "done" for each in kept)
            self.heart.count(done=done, failed=len(kept) - done)
            self.questions.settled(kept)

    # --- start, stop and new settings

    def start(self) -> None:
        """Take over from an earlier poller, and begin to listen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.on_crash)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(HAND_OVER, self.successor.request)
        role.end_by(self.stop)
        if self.handed:
            self.leases.go_on(self.handed.owner)
            self.in_flight.go_on(self.handed.in_flight)
            self.workers.go_on(self.handed.links)
        freed = self.leases.take_over(
            self.home, self.config.shards, shared=self.config.bridge.url.is_server
        )
        self.questions.newest = self.bridge.messages.newest()
        log.info("ready; took over %d unfinished questions", freed + len(self.in_flight))
        self.heart.state = ProcessState.IDLE
        self.schedule.every(CHECK_S, self.check)
        self.schedule.every(self.in_flight.lease_ms / 4000, self.renew_leases)
        self.upkeep.begin(self.schedule)

    def stop(self) -> None:
        """Drain, and end."""
        self.stopping = True
        self.wake()

    @contextmanager
    def crash_noted(self) -> Iterator[None]:
        """Note what no turn expected, so that the drain comes before the end, as for `on_crash`.

        Raises BridgeError: what is not tolerated comes from a store that is not to be written to.
        """
        try:
            yield
        except BridgeError:
            raise
        except Exception as error:  # a bug: whatever it is, received answers are to be settled
            log.error("a turn failed; draining", exc_info=error)
            self.crash = self.crash or error

    def on_crash(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End on what no callback expected: a poller that went on would look healthy."""
        self.crash = self.crash or context.get("exception") or RuntimeError(context["message"])
        self.stop()

    def reload(self) -> None:
        """Take up changed settings in place; where that cannot be, end, to be started with them."""
        try:
            config = load(self.home)
        except ConfigError as error:
            log.warning("the settings stay as they are: %s", error)
            return
        if fingerprint.of_ground(config) != self.ground:
            log.info("ending, to be started with new settings of the bridge")
            self.stop()
            return
        self.config = config
        self.workers.update(config)
        self.in_flight.update(config)
        self.pauses.update(config.shards)
        self.budgets.update(config.shards)
        self.leases.shards = list(config.shards)
        self.upkeep.update(config)
        self.schedule.every(self.in_flight.lease_ms / 4000, self.renew_leases)
        self.heart.settings = fingerprint.of_poller(config)
        log.info("took up new settings; shards: %s", ", ".join(config.shards))

    # --- what is checked every so many seconds

    def check(self) -> None:
        """Look at everything that may change without a wake-up, or whose wake-up may be missing."""
        self.heart.beat()
        self.bridge.require_in_place()  # or end: the next poller opens what others have open
        self.restore_folders()
        self.wakers.check()
        self.answers_elsewhere.check()
        self.listener.look()
        self.watchdog_guard.check()
        self.workers.check(self.in_flight.busy_workers())
        self.pauses.look_by_hand()
        with self.outages.tolerated("check budgets"):
            self.budgets.check(self.pauses.check())

    def restore_folders(self) -> None:
        """Make again what somebody removed of var/run."""
        if not self.home.run.is_dir():
            with suppress(OSError):  # what cannot be made is named by whoever needs it
                self.home.make_private()

    def renew_leases(self) -> None:
        """Renew the leases of what is in flight, and free what nobody works on any more."""
        with self.outages.tolerated("renew leases"):
            self.notify(self.leases.renew())

    def report(self) -> None:
        """Show in the heartbeat why the store cannot be used, or why questions wait longer."""
        reason = self.outages.reason
        self.heart.note = reason or self.wakers.trouble or self.listener.trouble
        state = ProcessState.HELD if reason else ProcessState.IDLE
        if self.heart.state is not state and not self.stopping:
            self.heart.state = state

    # --- what others call

    def on_bell(self) -> None:
        """Somebody has sent a message or paused a shard, or a worker has published its pipes."""
        self.workers.connect()
        self.pauses.look_by_hand()
        self.answers_elsewhere.expect()
        self.wake()

    def on_foreign_write(self) -> None:
        """Somebody else has written into the store: a question, or an answer."""
        self.answers_elsewhere.expect()
        self.wake()

    def on_away(self) -> None:
        """The server of the store could not be reached."""
        self.was_away = True
        self.leases.store_was_away()

    def wake(self) -> None:
        """Have the loop take a turn."""
        self.wakers.wake()

    def add_outcome(self, outcome: Outcome) -> None:
        """Note an outcome for the next turn, and look again when its next attempt is due."""
        self.leases.add(outcome)
        if isinstance(outcome, Failed):
            self.wakers.wake_in(min(outcome.wait_ms / 1000, LONGEST_WAIT_S))
        self.wake()
