"""When a poller becomes its own successor: asked to, tried out, and with nothing to be settled."""

import asyncio
import logging
from collections.abc import Callable

from autopoll.errors import ConfigError
from autopoll.home import fingerprint
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.poller import hand_over
from autopoll.poller.hand_over import FORMAT, HandedOver
from autopoll.poller.in_flight import InFlight
from autopoll.poller.lease_owner import LeaseOwner
from autopoll.poller.workers import Workers
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart

log = logging.getLogger(__name__)


class Successor:
    """The program that is installed now, as what this poller may become."""

    def __init__(
        self,
        home: Home,
        heart: Heart,
        workers: Workers,
        in_flight: InFlight,
        leases: LeaseOwner,
        ground: str,
        wake: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        """`ground` is the fingerprint of the settings under which the bridge is open."""
        self._home = home
        self._heart = heart
        self._workers = workers
        self._in_flight = in_flight
        self._leases = leases
        self._ground = ground
        self._wake = wake
        self._stop = stop
        self._trial: asyncio.Task[None] | None = None
        self._is_due = False

    def request(self) -> None:
        """Try out what is installed, and become it where it starts; else everything goes on."""
        if self._trial is None or self._trial.done():
            self._trial = asyncio.get_running_loop().create_task(self._try_out())

    async def _try_out(self) -> None:
        try:
            config = load(self._home)
        except ConfigError as error:
            log.warning("no other code is taken up: %s", error)
            return
        if fingerprint.of_ground(config) != self._ground:  # what is in flight is of this bridge
            log.info("ending, to be started with new code and new settings of the bridge")
            self._stop()
            return
        if trouble := await hand_over.trouble_with_installed():
            log.error("the installed code does not start, and is not taken up: %s", trouble)
            return
        self._is_due = True
        self._wake()

    def take_over_if_due(self) -> None:
        """Become the successor, unless something waits to be settled first.

        Raises OSError where the system does not let us.
        """
        if not self._is_due or self._leases.has_unsettled:
            return
        handed = HandedOver(
            format=FORMAT,
            ground=self._ground,
            owner=self._leases.id,
            in_flight=self._in_flight.hand_over(),
            links=self._workers.hand_over(),
        )
        if handed.is_whole:
            log.info("handing over to the installed code: %d in flight", len(self._in_flight))
            self._heart.state = ProcessState.STARTING  # it is some time until its next beat
            hand_over.become_successor(handed)
