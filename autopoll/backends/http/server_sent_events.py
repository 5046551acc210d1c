"""Server-sent events out of bytes, as services really send them; pure.

Lines end in LF, CR or CRLF; a blank after the colon may be missing; a byte order mark and data in
several lines are taken; comments are signs of life and nothing else. A stream that begins as JSON
or as a web page is no stream of events: its `body` is kept whole.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

LARGEST = 32 * 1024 * 1024  # bytes of one event, or of a whole body

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class TooMuch(ValueError):
    """An event, or a body that is none, that is larger than any answer."""


class Event(NamedTuple):
    """One event: its name, mostly empty, and its data."""

    name: str
    data: str


class Events:
    """Takes the bytes of one response and gives the events in them."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that is not over, or all of what is no stream
        self._name, self._data, self._size = "", list[str](), 0
        self._scanned = 0  # bytes of the rest that hold no line end
        self._begun = False
        self._whole = False
        self.strange = ""  # the first line that belongs to no event

    @property
    def body(self) -> bytes | None:
        """What the service sent in place of a stream; None when it is one, or nothing came."""
        return bytes(self._rest) if self._whole else None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes and yield the events that are whole with them; raise TooMuch."""
        self._rest += chunk
        if not self._begun and not self._begin():
            return
        if len(self._rest) + self._size > LARGEST:
            raise TooMuch(f"more than {LARGEST:,} bytes in one piece")
        if self._whole:
            return
        ends = [(end.start(), end.end()) for end in _LINE_END.finditer(self._rest, self._scanned)]
        if ends and ends[-1][1] == len(self._rest) and self._rest[-1:] == b"\r":
            ends.pop()  # its LF may be in the next bytes
        start = 0
        for end, after in ends:
            if event := self._line(self._rest[start:end].decode("utf-8", "replace")):
                yield event
            start = after
        del self._rest[:start]
        self._scanned = len(self._rest) - self._rest.endswith(b"\r")

    def end(self) -> Iterator[Event]:
        """Yield what the last bytes hold, though their last line is not ended."""
        if self._rest and not self._whole:
            for line in (self._rest.rstrip(b"\r").decode("utf-8", "replace"), ""):
                if event := self._line(line):
                    yield event

    def _begin(self) -> bool:
        """Decide by the first character whether it is a stream; False until there is one."""
        text = self._rest.removeprefix(_BOM).lstrip()
        if not text or _BOM.startswith(self._rest):
            return False
        self._begun = True
        self._whole = text[:1] in b"{[<"
        self._rest = text
        return True

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._size += len(value)
        elif field == "event":
            self._name = value
        elif field not in ("", "id", "retry") and not self.strange:
            self.strange = line[:1000]
        return None
