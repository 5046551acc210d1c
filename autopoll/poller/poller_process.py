"""The poller process: alone in its home, with the bridge open for as long as it runs."""

import asyncio
import logging
import signal

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.errors import BridgeUnavailable
from autopoll.home import fingerprint
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.poller.hand_over import HandedOver, inherited, is_successor
from autopoll.poller.poller import Poller
from autopoll.process import role
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.lifeline import Lifeline

RETRY_S = 1.0  # between two tries to reach the server of the bridge

log = logging.getLogger(__name__)


def run(home: Home, config: Config) -> None:
    """Be the poller process until asked to stop; raise what makes it impossible."""
    goes_on = is_successor()
    with (
        role.alone(home, "poller"),
        Heart.open(home.beats, "poller", "poller", goes_on=goes_on) as heart,
    ):
        heart.settings = fingerprint.of_poller(config)
        handed = inherited(config)
        bridge = open_when_reached(home, config, heart)
        if bridge is None:
            return
        try:
            asyncio.run(_run(home, config, bridge, heart, handed))
        finally:
            bridge.close()


def open_when_reached(home: Home, config: Config, heart: Heart) -> Bridge | None:
    """Open the bridge as soon as its server can be reached; None when asked to end before.

    To end at once would bring no server back, and supervisord would give up the poller. Called
    while signals are held back. Raises what another try would not change.
    """
    reported = ""
    while True:
        try:
            bridge = connect(home, config)
        except BridgeUnavailable as error:
            if reported != (reported := error.what):
                log.warning("held until the bridge can be reached: %s", error)
            heart.note = error.what  # before the state, which is shown with its reason
            heart.state = ProcessState.HELD
        else:
            # What comes next may take longer than a turn of the loop.
            heart.state = ProcessState.STARTING
            return bridge
        heart.beat()
        # After a HUP too: with the new settings, it may be another server.
        asked = signal.sigtimedwait((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), RETRY_S)
        if asked or Lifeline().is_cut:
            return None


async def _run(
    home: Home, config: Config, bridge: Bridge, heart: Heart, handed: HandedOver | None
) -> None:
    await Poller(home, config, bridge, heart, handed).run()
