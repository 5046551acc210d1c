"""The embedded engine: one SQLite file in WAL mode, through apsw."""

from autopoll.bridge.protocols import (
    ConversationStore,
    DeliveryStore,
    MessageStore,
    Overview,
    Watch,
)
from autopoll.bridge.sqlite.checkup import Checkup
from autopoll.bridge.sqlite.conversation_store import Access
from autopoll.bridge.sqlite.deliveries import Deliveries
from autopoll.bridge.sqlite.idempotency import Keys
from autopoll.bridge.sqlite.overview import Ledger
from autopoll.bridge.sqlite.presence import Presences


class SqliteBridge(Access, Keys, Presences, Deliveries, Ledger, Checkup):
    """The whole contract; each part knows the store below it and no other part."""

    @property
    def conversations(self) -> ConversationStore:
        """Return the part that keeps conversations."""
        return self

    @property
    def messages(self) -> MessageStore:
        """Return the part that keeps messages."""
        return self

    @property
    def deliveries(self) -> DeliveryStore:
        """Return the part that keeps deliveries."""
        return self

    @property
    def overview(self) -> Overview:
        """Return the part that counts."""
        return self

    def watch(self) -> Watch:
        """Return a watch on the folder of the database; raise BridgeError when there is none."""
        # Only the poller watches; importing inotify costs every `ask` a tenth of its start-up.
        from autopoll.bridge.sqlite.watch import FolderWatch

        return FolderWatch(self.path)
