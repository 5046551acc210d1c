"""What a copy of a bridge holds."""

import msgspec


class BackupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The schema of the copy, its size, and how much is in it."""

    schema: int
    bytes: int
    messages: int
    conversations: int
