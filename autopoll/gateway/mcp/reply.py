"""What a tool hands back."""

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """A tool's structured result; a note for whoever reads the text; whether it is a failure."""

    value: msgspec.Struct
    note: str = ""
    failed: bool = False
