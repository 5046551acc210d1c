"""Messages, of which every poller is notified after their commit."""

from collections.abc import Sequence

from autopoll.bridge.postgres.connection import PostgresDatabase
from autopoll.bridge.records import Arrival, BridgeLimits, Stored
from autopoll.bridge.sql.message_store import SqlMessages


class PostgresMessages(SqlMessages):
    """The MessageStore; what a poller stores itself, it notifies the others of."""

    def __init__(self, db: PostgresDatabase, limits: BridgeLimits) -> None:
        super().__init__(db, limits)
        self._notify = db.notify

    def store(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        stored = super().store(arrivals)
        self._notify()
        return stored
