"""Who may be connected at a time, so that nobody without a token keeps others out.

A connection is a stranger's until a request on it has proven a token, and a stranger may owe us
something only as long as there is room: whoever comes when there is none takes the place of the
stranger who has kept us waiting for longest, of the peer who has most of them. So an honest client,
who sends its request at once, is let in whatever others hold open, and `/healthz` is answered.

    waiting   strangers from whom a request, or the end of one, is still to come: as many as fit,
              for a burst of honest clients looks the same at first
    proven    those who have shown a token, or whose token is being looked up: three quarters at
              most, less those that are idle; so a quarter is always left for strangers
    idle      proven ones between two requests, who go before anybody is refused
    the rest  strangers whose request is complete; it is our turn, so they are never sent away
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Protocol

from autopoll.gateway.problems import Refused

SHARE = 4  # one part in so many is kept for strangers


class Client(Protocol):
    """A connection as it is counted here."""

    peer: Hashable

    @property
    def is_ours(self) -> bool:
        """Whether it is our turn: its request is complete, and its answer is not yet."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests."""
        ...

    def send_away(self) -> None:
        """Close it in favour of another, telling why where that can be told."""
        ...


class Admission:
    """The connections of one gateway; `audit` is told when there is no room."""

    def __init__(self, most: int, audit: Callable[[str], None]) -> None:
        self._most = most
        self._holders = max(1, most - most // SHARE)
        # How many may be taken in one turn of the loop: two turns pass until the first of them has
        # been read, and until then they are strangers who owe us something.
        self.at_once = min(64, max(1, most // 32))
        self._audit = audit
        self._all: set[Client] = set()
        self._waiting: dict[Client, None] = {}  # the one who has waited for longest first
        self._peers: Counter[Hashable] = Counter()  # of those
        self._proven: set[Client] = set()
        self._idle: dict[Client, None] = {}

    def enter(self, client: Client) -> bool:
        """Take in a stranger; tell whether there is room, which is made where it can be."""
        room = len(self._all) < self._most or self._make_room()
        if not room:
            self._audit("too-many-connections")
            return False
        self._all.add(client)
        self.changed(client)
        return True

    def leave(self, client: Client) -> None:
        """Forget a connection; tolerated twice."""
        self._all.discard(client)
        self._proven.discard(client)
        self._idle.pop(client, None)
        self._no_longer_waits(client)

    def changed(self, client: Client) -> None:
        """See anew whose turn it is on a connection."""
        if client not in self._all:
            return
        if client in self._proven:
            if client.is_idle:
                self._idle.setdefault(client)
            else:
                self._idle.pop(client, None)
        elif client.is_ours:
            self._no_longer_waits(client)
        elif client not in self._waiting:
            self._waiting[client] = None
            self._peers[client.peer] += 1

    def prove(self, client: Client) -> None:
        """Count a connection among those that show a token; raise Refused when there is no room."""
        if client in self._proven or client not in self._all:
            return
        if len(self._proven) - len(self._idle) >= self._holders:
            self._audit("too-many-connections")
            raise too_many()
        self._no_longer_waits(client)
        self._proven.add(client)
        self.changed(client)

    def disprove(self, client: Client) -> None:
        """Count a connection as a stranger's again: its token opens nothing."""
        self._proven.discard(client)
        self._idle.pop(client, None)
        self.changed(client)

    def _make_room(self) -> bool:
        if self._waiting:
            self._send_away(self._longest_waiting())
            return True
        if self._idle:
            self._send_away(next(iter(self._idle)))
            return True
        return False

    def _longest_waiting(self) -> Client:
        [(peer, _)] = self._peers.most_common(1)
        return next(client for client in self._waiting if client.peer == peer)

    def _send_away(self, client: Client) -> None:
        self.leave(client)
        self._audit("too-many-connections")
        client.send_away()

    def _no_longer_waits(self, client: Client) -> None:
        if client in self._waiting:
            del self._waiting[client]
            self._peers[client.peer] -= 1
            if not self._peers[client.peer]:
                del self._peers[client.peer]


def too_many() -> Refused:
    """Return the error of a client for whom there is no room."""
    return Refused("too-many-connections", 503, "too many connections; try again later")
