"""Bytes to frames and back; touches no descriptor.

A frame is a header of 32 bytes and then the payload; numbers are big-endian.

    offset  size  field
         0     4  magic F1 66 66 0A: not ASCII, and a translated line end is seen
         4     1  version of the frame layout
         5     1  type
         6     2  flags, sent as 0 and ignored
         8     8  epoch of the pair
        16     8  request id, 0 in frames that belong to the link
        24     4  payload length in bytes
        28     4  crc32 of the 28 bytes before it and the payload
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

from fifo.errors import RemoteFault

MAGIC = b"\xf1ff\n"
VERSION = 1
MAX_PAYLOAD = 16 * 1024 * 1024
LINK = 0  # the request id of frames that belong to the link

_HEADER = struct.Struct(">4sBBHQQII")
_SEALED = struct.Struct(">4sBBHQQI")  # the part that the crc covers
_CRC = struct.Struct(">I")
HEADER_SIZE = _HEADER.size


class Type(IntEnum):
    """What a frame is about."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    PROGRESS = 4
    REPLY = 5
    FAILURE = 6
    CANCEL = 7
    PING = 8
    PONG = 9
    DRAIN = 10
    BYE = 11


_TYPES = {int(kind): kind for kind in Type}


class Frame(NamedTuple):
    """One message on the pipe."""

    type: Type
    epoch: int
    request_id: int = LINK
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """Return the frame as it goes into the pipe; raise struct.error on a number out of range."""
    sealed = _SEALED.pack(
        MAGIC, VERSION, frame.type, 0, frame.epoch, frame.request_id, len(frame.payload)
    )
    crc = crc32(frame.payload, crc32(sealed))
    return b"".join((sealed, _CRC.pack(crc), frame.payload))


class Decoder:
    """Takes bytes in pieces of any size and gives back frames.

    It holds at most one unfinished frame and the last piece. A bad frame poisons it: no byte
    after it can be trusted, so the same error is raised from then on.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._buffer += data

    def frames(self) -> Iterator[Frame]:
        """Yield every whole frame; raise RemoteFault at the first bad one."""
        start = 0
        try:
            while (end := self._end(start)) is not None:
                frame = self._open(start, end)
                start = end
                yield frame
        finally:
            # Once for all frames of a piece: cutting off each one would move the rest each time.
            del self._buffer[:start]

    def _end(self, start: int) -> int | None:
        """Return where the frame at `start` ends, or None while it is not whole."""
        available = len(self._buffer) - start
        if available < HEADER_SIZE:
            return None
        magic, version, kind, _, _, _, length, _ = _HEADER.unpack_from(self._buffer, start)
        if magic != MAGIC:
            raise self._fault(start, "it does not begin with the magic")
        if version != VERSION:
            raise self._fault(start, f"its layout is version {version}, not {VERSION}")
        if kind not in _TYPES:
            raise self._fault(start, f"there is no type {kind}")
        if length > self.max_payload:
            raise self._fault(start, f"its payload of {length} bytes is over {self.max_payload}")
        return start + HEADER_SIZE + length if available >= HEADER_SIZE + length else None

    def _open(self, start: int, end: int) -> Frame:
        _, _, kind, _, epoch, request_id, _, crc = _HEADER.unpack_from(self._buffer, start)
        with memoryview(self._buffer) as view:
            payload = bytes(view[start + HEADER_SIZE : end])
            sealed = crc32(view[start : start + _SEALED.size])
        if crc32(payload, sealed) != crc:
            raise self._fault(start, "its crc32 is wrong")
        return Frame(_TYPES[kind], epoch, request_id, payload)

    def _fault(self, start: int, why: str) -> RemoteFault:
        # The header and no more: what people ask and answer does not belong in logs.
        first = self._buffer[start : start + HEADER_SIZE].hex(" ", -4)
        return RemoteFault(
            f"bad frame: {why}; it begins {first}",
            "Both ends must run the same version, and nothing else may write to the pipe.",
        )
