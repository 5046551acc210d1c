"""What a client of a stream of notifications knows, as the id of its last event.

A client shows it when it opens its stream again (Last-Event-ID), also to the next gateway, for a
gateway keeps nothing. So the subscriptions go on, and no new message goes unnoticed. Whoever makes
one up gains nothing: each transcript in it is proven to be the caller's again.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Self

import msgspec

MOST = 64  # conversations
MOST_BYTES = 8 * 1024  # of their ids, so that all of it fits into a header


class StreamCursor(msgspec.Struct, frozen=True, array_like=True):
    """The newest message known of, the conversations subscribed to, and the level of the log."""

    known: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
    conversations: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST)] = ()
    level: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what an id says; None for one that is not ours."""
        try:
            return msgspec.msgpack.decode(urlsafe_b64decode(text), type=cls)
        except (ValueError, msgspec.MsgspecError):
            return None

    def __str__(self) -> str:
        return urlsafe_b64encode(msgspec.msgpack.encode(self)).decode()
