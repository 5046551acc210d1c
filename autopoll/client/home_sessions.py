"""Which session of a conversation a caller is, proven by its token or by one the home keeps."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autopoll.bridge.records import Tokens
from autopoll.errors import AccessDenied, NotFound, UsageError
from autopoll.home import credentials
from autopoll.home.config import Config
from autopoll.home.home import Home

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge

TOKEN_VARIABLE = "AUTOPOLL_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_FILE_LIMIT = 4096  # characters; a token has 64


class HomeSessions:
    """The sessions whose tokens the home keeps, over one open bridge."""

    def __init__(self, home: Home, bridge: "Bridge") -> None:
        self._home = home
        self._bridge = bridge
        self._kept = credentials.CredentialsCache(home)

    def authenticate(self, conversation: str, session: str | None, token: str | None) -> str:
        """Return the session that a token proves.

        The token given wins, then AUTOPOLL_TOKEN, then the one the home keeps for the session
        (a unless named). Raises AccessDenied, or NotFound when there is no token at all.
        """
        token = token or os.environ.get(TOKEN_VARIABLE)
        if not token:
            return self.as_owner(conversation, session or "a")
        proven = self._bridge.conversations.authenticate(conversation, token)
        if session not in (None, proven):
            raise AccessDenied(
                f"the token proves session {proven} of {conversation}, not {session}",
                f"Use the token of session {session}.",
            )
        return proven

    def keep_token(self, conversation: str, session: str, token: str) -> bool:
        """Keep a new token if the home kept the one before it; tell whether it does."""
        with credentials.edit(self._home) as kept:
            if session not in kept.tokens.get(conversation, {}):
                return False
            kept.tokens[conversation][session] = token
            return True

    def with_shard(self, shard: str, config: Config) -> str:
        """Return the home's own conversation with a shard, in which it is session a.

        One with a shard of another home is made when it is first asked for, and served again when
        that home has removed and added the shard meanwhile. Raises NotFound as `require_shards`
        does, and where the home has lost the one with a shard of its own.
        """
        self.require_shards([shard], config)
        conversation = self._kept.read().shards.get(shard)
        if shard not in config.shards:
            if conversation is None:
                with credentials.edit(self._home) as kept:
                    if shard not in kept.shards:
                        converse(self._bridge, shard, kept)
                    conversation = kept.shards[shard]
            # Once the tokens are kept, so that they are not lost where it cannot be served now.
            if self._bridge.conversations.shard_of(conversation, "b") is None:
                self._bridge.conversations.serve(conversation, "b", shard)
        if conversation is None:
            raise self._lost() or NotFound(
                f"shard {shard} has no conversation yet", f"Run: autopoll init '{self._home.root}'"
            )
        return conversation

    def require_shards(self, shards: Sequence[str], config: Config) -> None:
        """Raise NotFound for shards that neither the settings name nor, on a shared bridge, another
        home has served of late; it may be away, and then answers later.
        """
        unknown = [shard for shard in shards if shard not in config.shards]
        known = list(config.shards)
        if unknown and config.bridge.url.is_server:
            from autopoll.client.other_homes import other_homes  # loaded where it is needed

            homes = other_homes(self._home, self._bridge)
            known += sorted({shard for each in homes for shard in each.shards} - set(known))
            unknown = [shard for shard in unknown if shard not in known]
        if unknown:
            names = ", ".join(map(repr, unknown))
            raise NotFound(f"there is no shard {names}", f"There are: {', '.join(known)}.")

    def token(self, conversation: str, session: str) -> str:
        """Return the token that the home keeps for a session, good or not; raise NotFound."""
        try:
            return self._kept.read().token(conversation, session)
        except NotFound as error:
            raise self._lost() or error from None

    def as_owner(self, conversation: str, session: str) -> str:
        """Prove a session by the token that the home keeps for it, replacing one that has expired.

        Raises NotFound when it keeps none, and AccessDenied for a revoked one.
        """
        token = self.token(conversation, session)
        try:
            return self._bridge.conversations.authenticate(conversation, token)
        except AccessDenied:
            from autopoll.bridge import token_renewal  # which an asker mostly does not need

            with credentials.edit(self._home) as kept:
                if session not in token_renewal.replace_refused(self._bridge, conversation, kept):
                    raise
        return session

    def _lost(self) -> NotFound | None:
        """Return the error of a home that had a file of tokens and has lost it."""
        if self._home.credentials.exists() or not self._bridge.conversations.all():
            return None
        return NotFound(
            f"{self._home.credentials} is lost, and with it the tokens of this home",
            f"Put it back; or make new conversations with: autopoll init '{self._home.root}'. "
            "Those before stay in the bridge (autopoll conversations list), and what waits in them "
            "is answered; for a new token to one: autopoll conversations rotate ID a",
        )


def converse(bridge: "Bridge", shard: str, kept: credentials.Credentials) -> Tokens:
    """Make the home's own conversation with a shard, and keep its tokens."""
    tokens = bridge.conversations.create("asker", shard)
    kept.shards[shard] = tokens.conversation
    kept.tokens[tokens.conversation] = {"a": tokens.a, "b": tokens.b}
    return tokens


def read_token(path: Path) -> str:
    """Return the token in a file, or on stdin for `-`; raise UsageError when there is none."""
    try:
        with (Path("/dev/stdin") if str(path) == "-" else path).open(encoding="utf-8-sig") as file:
            text = file.read(_TOKEN_FILE_LIMIT)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} holds no token: it is not text") from error
    if not text.strip():
        raise UsageError(f"{path} holds no token: it is empty")
    return text.strip()
