"""The engine on a PostgreSQL server, which several hosts can share.

Every part is handed the one connection. Methods of the contract are documented in
`autopoll.bridge.protocols` and `autopoll.bridge.delivery_protocol`.
"""

from contextlib import ExitStack

from autopoll.bridge.foreign_watch import Watch
from autopoll.bridge.postgres import schema
from autopoll.bridge.postgres.checkup import PostgresCheckup
from autopoll.bridge.postgres.connection import PostgresDatabase, bounded
from autopoll.bridge.postgres.deliveries import PostgresDeliveries
from autopoll.bridge.postgres.notifying_messages import PostgresMessages
from autopoll.bridge.postgres.reconnection import Reconnection
from autopoll.bridge.postgres.retention import PostgresRetention
from autopoll.bridge.postgres.server_check import ServerCheck
from autopoll.bridge.postgres.watch import NotificationWatch
from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sql.conversation_store import SqlConversations
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.overview import SqlOverview


class PostgresBridge:
    """The Bridge in the schema `autopoll` of one database; `listen_url` goes past a pooler."""

    def __init__(
        self,
        url: str,
        limits: BridgeLimits,
        *,
        create: bool = False,
        read_only: bool = False,
        listen_url: str | None = None,
    ) -> None:
        self._db = db = PostgresDatabase(url, read_only=read_only)
        with ExitStack() as opened:
            opened.callback(db.close)
            self._listening = Reconnection(listen_url or url, read_only=read_only)
            schema.prepare(db, create=create, read_only=read_only)
            opened.pop_all()
        costs = Costs(db)
        self.conversations = bounded(SqlConversations(db, limits), db)
        self.messages = bounded(PostgresMessages(db, limits), db)
        self.deliveries = bounded(PostgresDeliveries(db, limits, costs), db)
        self.overview = bounded(SqlOverview(db, limits, costs), db)
        self.retention = bounded(PostgresRetention(db), db)
        self.examine = bounded(PostgresCheckup(db), db).examine
        self.warnings = bounded(ServerCheck(db), db).warnings

    def close(self) -> None:
        self._listening.close()
        self._db.close()

    def changed(self) -> bool:
        return True

    def require_in_place(self) -> None:
        pass

    def watch(self) -> Watch:
        return NotificationWatch(self._listening)
