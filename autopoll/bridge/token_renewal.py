"""The tokens that a home keeps for itself: renewed while it runs, replaced when they expired.

An expiry protects nothing here: its credentials and its database lie in the same home. What was
revoked stays so.
"""

import logging
import time

from autopoll.bridge.protocols import Bridge
from autopoll.clock import wall_ms
from autopoll.errors import AccessDenied, ConfigError, NotFound
from autopoll.home import credentials
from autopoll.home.credentials import Credentials
from autopoll.home.home import Home

MAX_INTERVAL_S = 3600.0

log = logging.getLogger(__name__)


def replace_refused(bridge: Bridge, conversation: str, kept: Credentials) -> set[str]:
    """Replace the kept tokens that are refused, unless they were revoked; renew the others.

    Returns the sessions whose token is valid now; the caller saves `kept`. Raises NotFound.
    """
    revoked = bridge.conversations.get(conversation).revoked
    tokens = kept.tokens.get(conversation, {})
    sessions = [session for session in tokens if session not in revoked]
    # All are tried before any is replaced: both share one expiry, which a replacement moves.
    refused = [each for each in sessions if not _is_accepted(bridge, conversation, tokens[each])]
    for session in refused:
        tokens[session] = bridge.conversations.rotate_token(conversation, session)
    return set(sessions)


def _is_accepted(bridge: Bridge, conversation: str, token: str) -> bool:
    try:
        bridge.conversations.authenticate(conversation, token)
    except AccessDenied:
        return False
    return True


class Renewal:
    """Keeps a home's own tokens from expiring while its poller runs."""

    def __init__(self, home: Home, bridge: Bridge, lifetime_s: float) -> None:
        self.every_s = min(MAX_INTERVAL_S, lifetime_s / 4)
        self._bridge = bridge
        self._kept = credentials.CredentialsCache(home)
        self._renewed_at: tuple[float, float] | None = None  # by the monotonic and the wall clock
        self._error = ""

    def renew_due(self) -> None:
        """Renew tokens with less than half of their lifetime left; to be called often.

        Does so once `every_s` has passed by either clock: the wall clock leaps when the machine
        was suspended. Raises BridgeError.
        """
        now = time.monotonic(), wall_ms() / 1000
        if self._renewed_at and all(
            each - before < self.every_s for each, before in zip(now, self._renewed_at, strict=True)
        ):
            return
        for conversation, tokens in self._read().tokens.items():
            for token in tokens.values():
                self._renew(conversation, token)
        self._renewed_at = now

    def _renew(self, conversation: str, token: str) -> None:
        try:
            self._bridge.conversations.renew_token(conversation, token)
        except NotFound:  # its database was replaced: `up` makes another conversation
            return

    def _read(self) -> Credentials:
        try:
            kept, error_text = self._kept.read(), ""
        except ConfigError as error:
            kept, error_text = Credentials(), error.what
        if error_text not in ("", self._error):
            log.warning("the home's own tokens are not renewed: %s", error_text)
        self._error = error_text
        return kept
