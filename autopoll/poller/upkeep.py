"""What the poller does in the store, and beside it, that no question waits for."""

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.token_renewal import Renewal
from autopoll.home import disk_samples
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.poller.outages import Outages
from autopoll.poller.pruning import Pruning
from autopoll.poller.schedule import Schedule
from autopoll.process.old_files import remove_old_files

ANNOUNCE_S = 5.0  # how soon a partner sees a session as alive that was just served
RENEW_S = 1.0
SAMPLE_S = 300.0  # between two looks whether an hour has passed
FILES_S = 3600.0


class Upkeep:
    """Announces sessions, renews the home's tokens, samples the disks, and forgets what is old."""

    def __init__(
        self, home: Home, config: Config, bridge: Bridge, outages: Outages, pruning: Pruning
    ) -> None:
        self._home = home
        self._config = config
        self._bridge = bridge
        self._outages = outages
        self._pruning = pruning
        self._renewal = Renewal(home, bridge, config.access.token_lifetime)

    def begin(self, schedule: Schedule) -> None:
        """Have everything done in its time."""
        schedule.every(ANNOUNCE_S, self._announce)
        schedule.every(min(RENEW_S, self._renewal.every_s), self._renew_tokens)
        schedule.every(SAMPLE_S, self._sample_disks)
        schedule.every(FILES_S, self._remove_old_files)

    def update(self, config: Config) -> None:
        """Go by other settings from now on."""
        self._config = config
        self._pruning.update(config)

    def prune_due(self) -> None:
        """Forget a little of what is old, if it is time; called in each turn, at its end."""
        if self._pruning.is_due:
            with self._outages.passed_over():
                self._pruning.step()

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

    def _remove_old_files(self) -> None:
        kept = self._config.retention
        remove_old_files(self._home, self._config, kept.incidents, kept.logs)
