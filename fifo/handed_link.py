"""A client's link as it is handed to the program that its process becomes by exec(2).

The descriptors stay open across the exec, and the server notices nothing: to it the client is the
same process at the same pipes.
"""

import os

import msgspec

from fifo.client_session import HandedSession
from fifo.endpoint import Endpoint


class HandedLink(msgspec.Struct, frozen=True, kw_only=True):
    """What the next program needs to go on: the descriptors, and what goes over them."""

    endpoint: Endpoint
    reader: int
    writer: int
    lock: int
    session: HandedSession
    unsent: bytes

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Those that are handed over."""
        return self.reader, self.writer, self.lock

    def keep_open(self, keep: bool) -> None:
        """Have the descriptors stay open across an exec, or be closed by it as all others are."""
        for descriptor in self.descriptors:
            os.set_inheritable(descriptor, keep)
