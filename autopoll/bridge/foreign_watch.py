"""What wakes whoever waits for the writes of other programs."""

from typing import Protocol


class Watch(Protocol):
    """A descriptor that becomes readable when a foreign program may have written.

    `after_commit` tells whether what it notices can be seen already; else that takes a moment more.
    """

    after_commit: bool

    def fileno(self) -> int:
        """Return the descriptor to wait on; raise BridgeError after close."""

    def read(self) -> bool:
        """Consume what is pending and return whether it concerned the store."""

    def drop(self) -> None:
        """Consume what is pending, unread."""

    def notify(self) -> None:
        """Let other homes know of what was committed, where only that makes them look at once."""

    def require_alive(self) -> None:
        """Raise BridgeError where nothing would be noticed any more; cheap, for each second."""

    def close(self) -> None:
        """Stop watching; tolerated twice."""
