"""What the poller does in the store, and beside it, that no question waits for."""

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.token_renewal import Renewal
from autopoll.home import disk_samples
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.poller.outages import Outages
from autopoll.poller.schedule import Schedule

ANNOUNCE_S = 5.0  # how soon a partner sees a session as alive that was just served
RENEW_S = 1.0
SAMPLE_S = 300.0  # between two looks whether an hour has passed


class Upkeep:
    """Announces served sessions, renews the home's tokens, and notes how full the disks are."""

    def __init__(self, home: Home, config: Config, bridge: Bridge, outages: Outages) -> None:
        self._home = home
        self._config = config
        self._bridge = bridge
        self._outages = outages
        self._renewal = Renewal(home, bridge, config.access.token_lifetime)

    def begin(self, schedule: Schedule) -> None:
        """Have everything done in its time."""
        schedule.every(ANNOUNCE_S, self._announce)
        schedule.every(min(RENEW_S, self._renewal.every_s), self._renew_tokens)
        schedule.every(SAMPLE_S, self._sample_disks)

    def _announce(self) -> None:
        """Let partners see that their sessions are served."""
        with self._outages.tolerated("announce"):
            self._bridge.conversations.announce()

    def _renew_tokens(self) -> None:
        """Keep the home's own tokens from expiring."""
        with self._outages.tolerated("renew tokens"):
            self._renewal.renew_due()

    def _sample_disks(self) -> None:
        disk_samples.add_due(self._home, self._config)
