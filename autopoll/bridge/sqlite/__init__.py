"""The embedded engine: one SQLite file in WAL mode, through apsw."""

from autopoll.bridge.contract import Watch
from autopoll.bridge.sqlite.checkup import Checkup
from autopoll.bridge.sqlite.conversation_store import Access
from autopoll.bridge.sqlite.deliveries import Deliveries
from autopoll.bridge.sqlite.idempotency import Keys
from autopoll.bridge.sqlite.overview import Ledger
from autopoll.bridge.sqlite.presence import Presences


class SqliteBridge(Access, Keys, Presences, Deliveries, Ledger, Checkup):
    """The whole contract; each part knows the store below it and no other part."""

    def watch(self) -> Watch:
        """Return a watch on the folder of the database; raise BridgeError when there is none."""
        # Only the poller watches; importing inotify costs every `ask` a tenth of its start-up.
        from autopoll.bridge.sqlite.watch import FolderWatch

        return FolderWatch(self.path)
