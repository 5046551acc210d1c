"""The embedded engine: one SQLite file in WAL mode, through apsw."""

from autopoll.bridge.sqlite.access import Access
from autopoll.bridge.sqlite.deliveries import Deliveries
from autopoll.bridge.sqlite.ledger import Ledger
from autopoll.bridge.sqlite.mail import Mail
from autopoll.bridge.sqlite.watch import FolderWatch


class SqliteBridge(Access, Mail, Deliveries, Ledger):
    """The whole contract; each part knows the store below it and no other part."""

    def watch(self) -> FolderWatch:
        """Return a watch on the folder of the database; raise BridgeError when there is none."""
        return FolderWatch(self.path)
