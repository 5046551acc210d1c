"""The tokens that a home keeps for itself: renewed while it runs, replaced when they expired.

Nobody need have asked for a month: whoever holds the home holds its file of credentials and its
database, and an expiry keeps nothing from them. What was revoked stays so.
"""

import logging
import time

from autopoll.bridge.protocols import Bridge
from autopoll.clock import wall_ms
from autopoll.errors import AccessDenied, ConfigError, NotFound
from autopoll.home import credentials
from autopoll.home.credentials import Credentials
from autopoll.home.home import Home

LONGEST_S = 3600.0

log = logging.getLogger(__name__)


def replace_refused(bridge: Bridge, conversation: str, kept: Credentials) -> set[str]:
    """Replace the kept tokens that open a conversation no more, unless they were revoked.

    Renews the others by using them. Returns the sessions whose token opens it now; the caller keeps
    what changed in `kept`. Raises NotFound.
    """
    revoked = bridge.conversations.get(conversation).revoked
    tokens = kept.tokens.get(conversation, {})
    sessions = [session for session in tokens if session not in revoked]
    # All are tried before any is replaced: both share one expiry, which replacing moves.
    refused = [each for each in sessions if not _opens(bridge, conversation, tokens[each])]
    for session in refused:
        tokens[session] = bridge.conversations.rotate_token(conversation, session)
    return set(sessions)


def _opens(bridge: Bridge, conversation: str, token: str) -> bool:
    try:
        bridge.conversations.authenticate(conversation, token)
    except AccessDenied:
        return False
    return True


class Renewal:
    """Keeps a home's own tokens from expiring while its poller runs."""

    def __init__(self, home: Home, bridge: Bridge, lifetime_s: float) -> None:
        self.every_s = min(LONGEST_S, lifetime_s / 4)
        self._bridge = bridge
        self._kept = credentials.CredentialsCache(home)
        self._looked: tuple[float, float] | None = None  # by the clock that never leaps, and by it
        self._trouble = ""

    def look(self) -> None:
        """Renew what has less than half of its life left; to be called often.

        By either clock: a machine that slept for a month has its wall clock leap. Raises
        BridgeError.
        """
        now = time.monotonic(), wall_ms() / 1000
        if self._looked and all(
            each - before < self.every_s for each, before in zip(now, self._looked, strict=True)
        ):
            return
        for conversation, tokens in self._read().tokens.items():
            for token in tokens.values():
                self._prolong(conversation, token)
        self._looked = now

    def _prolong(self, conversation: str, token: str) -> None:
        try:
            self._bridge.conversations.renew_token(conversation, token)
        except NotFound:  # its database was replaced: `up` makes another conversation
            return

    def _read(self) -> Credentials:
        try:
            kept, trouble = self._kept.read(), ""
        except ConfigError as error:
            kept, trouble = Credentials(), error.what
        if trouble not in ("", self._trouble):
            log.warning("the home's own tokens are not renewed: %s", trouble)
        self._trouble = trouble
        return kept
