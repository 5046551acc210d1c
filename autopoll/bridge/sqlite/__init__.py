"""The embedded engine: one SQLite file in WAL mode, through apsw.

Every part is handed the one connection. Methods of the contract are documented in
`autopoll.bridge.protocols` and `autopoll.bridge.delivery_protocol`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from autopoll.bridge.foreign_watch import Watch
from autopoll.bridge.records import BridgeLimits, StoreWarning
from autopoll.bridge.sql.conversation_store import SqlConversations
from autopoll.bridge.sql.costs import Costs
from autopoll.bridge.sql.message_store import SqlMessages
from autopoll.bridge.sql.overview import SqlOverview
from autopoll.bridge.sqlite.checkup import SqliteCheckup
from autopoll.bridge.sqlite.connection import SqliteDatabase
from autopoll.bridge.sqlite.deliveries import SqliteDeliveries
from autopoll.bridge.sqlite.retention import SqliteRetention
from autopoll.clock import wall_ms


class SqliteBridge:
    """The Bridge in one file; opened as `SqliteDatabase` says."""

    def __init__(
        self,
        path: Path,
        limits: BridgeLimits,
        *,
        create: bool = False,
        read_only: bool = False,
        clock: Callable[[], int] = wall_ms,
        backups: Path | None = None,
    ) -> None:
        self._db = db = SqliteDatabase(
            path, create=create, read_only=read_only, clock=clock, backups=backups
        )
        with ExitStack() as opened:
            opened.callback(db.close)
            costs = Costs(db)
            self.conversations = SqlConversations(db, limits)
            self.messages = SqlMessages(db, limits)
            self.deliveries = SqliteDeliveries(db, limits, costs)
            self.overview = SqlOverview(db, limits, costs)
            self.retention = SqliteRetention(db)
            self.examine = SqliteCheckup(db).examine
            opened.pop_all()
        self.changed = db.changed
        self.require_in_place = db.require_in_place

    def close(self) -> None:
        self.deliveries.close()
        self._db.close()

    def warnings(self) -> list[StoreWarning]:
        from autopoll.bridge.sqlite.filesystem import doubts

        return doubts(self._db.path.resolve())

    def watch(self) -> Watch:
        # Imported here, as it costs every `ask`, which does not watch, a tenth of its start-up.
        from autopoll.bridge.sqlite.watch import FolderWatch

        return FolderWatch(self._db.path)
