"""Limits the connections of the gateway, so that no client without a token keeps others out.

A connection is unproven until a request on it has proven a token. An unproven one may keep us
waiting only as long as there is room: when there is none, a new connection takes the place of the
one that has kept us waiting for longest, of the peer that has most of them. So an honest client,
which sends its request at once, is let in whatever others hold open, and `/healthz` is answered.

    waiting   unproven, and a request, or the end of one, is still to come: as many as fit, for a
              burst of honest clients looks the same at first
    queued    unproven, and its token is not looked up yet: when too many are, the one that has been
              for longest makes way for the next, of the peer that has most of them
    proven    its token is good: with those that are queued three quarters at most, less those that
              are idle; so a quarter is always left for the others
    idle      proven, between two requests, or with a stream that its client can take up again;
              evicted before any connection is refused
    the rest  unproven, with a complete request; it is our turn, so they are never evicted
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Protocol

from autopoll.gateway.problems import Refused

SHARE = 4  # one part in so many is kept for unproven connections


class AdmittedConnection(Protocol):
    """A connection as it is counted here."""

    peer: Hashable

    @property
    def is_ours(self) -> bool:
        """Whether it is our turn: its request is complete, and its answer is not yet."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is between two requests, or can be spared."""
        ...

    def evict(self) -> None:
        """Close it in favour of another, with the reason where it can be sent."""
        ...


class _Unproven:
    """Connections in the order in which they came, and how many of them each peer has."""

    def __init__(self) -> None:
        self._all: dict[AdmittedConnection, None] = {}
        self._peers: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: AdmittedConnection) -> None:
        """Add one as the last; tolerated twice, and it stays where it is."""
        if connection not in self._all:
            self._all[connection] = None
            self._peers[connection.peer] += 1

    def discard(self, connection: AdmittedConnection) -> None:
        """Forget one, if it is there."""
        if connection in self._all:
            del self._all[connection]
            self._peers[connection.peer] -= 1
            if not self._peers[connection.peer]:
                del self._peers[connection.peer]

    def longest(self) -> AdmittedConnection:
        """Return the first of the peer that has most; there must be one."""
        [(peer, _)] = self._peers.most_common(1)
        return next(connection for connection in self._all if connection.peer == peer)


class Admission:
    """The connections of one gateway; `audit` is called when there is no room."""

    def __init__(self, most: int, audit: Callable[[str], None]) -> None:
        self._most = most
        self._holders = max(1, most - most // SHARE)
        # How many may be taken in one turn of the loop: two turns pass until the first of them has
        # been read, and until then they are unproven and keep us waiting.
        self.at_once = min(64, max(1, most // 32))
        self._audit = audit
        self._all: set[AdmittedConnection] = set()
        self._waiting = _Unproven()
        self._queued = _Unproven()
        self._proven: set[AdmittedConnection] = set()
        self._idle: dict[AdmittedConnection, None] = {}

    def enter(self, connection: AdmittedConnection) -> bool:
        """Add an unproven connection; return whether there is room, which is made if possible."""
        room = len(self._all) < self._most or self._make_room()
        if not room:
            self._audit("too-many-connections")
            return False
        self._all.add(connection)
        self.changed(connection)
        return True

    def leave(self, connection: AdmittedConnection) -> None:
        """Forget a connection; tolerated twice."""
        self._all.discard(connection)
        self._proven.discard(connection)
        self._idle.pop(connection, None)
        self._waiting.discard(connection)
        self._queued.discard(connection)

    def changed(self, connection: AdmittedConnection) -> None:
        """Update what is known of a connection: idle, waiting, or our turn."""
        if connection not in self._all:
            return
        if connection in self._proven:
            if connection.is_idle:
                self._idle.setdefault(connection)
            else:
                self._idle.pop(connection, None)
        elif connection.is_ours:
            self._waiting.discard(connection)
        else:
            self._waiting.add(connection)

    def queue(self, connection: AdmittedConnection) -> None:
        """Count a connection among those whose token is to be looked up.

        Raises Refused when others that are proven take all the room.
        """
        if connection not in self._all:
            return  # its client is gone
        if len(self._proven) - len(self._idle) + len(self._queued) >= self._holders:
            if not self._queued:
                self._audit("too-many-connections")
                raise too_many()
            self._evict(self._queued.longest())
        self._waiting.discard(connection)
        self._queued.add(connection)

    def prove(self, connection: AdmittedConnection) -> None:
        """Count a connection as proven; raise Refused when it has made way, or is gone."""
        if connection not in self._all:
            raise too_many()
        self._queued.discard(connection)
        self._waiting.discard(connection)
        self._proven.add(connection)
        self.changed(connection)

    def disprove(self, connection: AdmittedConnection) -> None:
        """Count a connection as unproven: its token opens nothing, or is not looked up."""
        self._queued.discard(connection)
        self._proven.discard(connection)
        self._idle.pop(connection, None)
        self.changed(connection)

    def _make_room(self) -> bool:
        if self._waiting:
            self._evict(self._waiting.longest())
            return True
        if self._idle:
            self._evict(next(iter(self._idle)))
            return True
        return False

    def _evict(self, connection: AdmittedConnection) -> None:
        self.leave(connection)
        self._audit("too-many-connections")
        connection.evict()


def too_many() -> Refused:
    """Return the error for a client when there is no room."""
    return Refused("too-many-connections", 503, "too many connections; try again later")
