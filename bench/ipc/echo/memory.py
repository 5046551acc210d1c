"""Gives back every frame of a ring in shared memory in another one.

python memory.py REQUESTS BELL REPLIES HEARD   (descriptors: a ring and its eventfd, twice)
"""

import mmap
import os
import struct
import sys
import threading

HEAD = struct.Struct("=Q")  # length of the payload that follows
LARGEST = 1024 * 1024  # bytes of a payload
ROOM = 132 * 1024  # more than is ever in flight, unless it is one frame
_TURN = 2 * ROOM  # who is past it begins anew: what is in flight lies behind, and beyond ROOM
SIZE = _TURN + HEAD.size + LARGEST


class Ring:
    """Frames one after the other. How many are new must be told by other means."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._put = self._taken = 0

    def put(self, payload: bytes) -> None:
        """Copy a payload into the ring; raise ValueError when it is too large."""
        length = len(payload)
        if length > LARGEST:
            raise ValueError(f"{length} bytes do not fit into a ring for {LARGEST}")
        start = self._put + HEAD.size
        HEAD.pack_into(self._memory, self._put, length)
        self._memory[start : start + length] = payload
        self._put = _after(start + length)

    def take(self) -> bytes:
        """Copy the next payload out of the ring."""
        start = self._taken + HEAD.size
        end = start + int(HEAD.unpack_from(self._memory, self._taken)[0])
        self._taken = _after(end)
        return self._memory[start:end]


def _after(end: int) -> int:
    return 0 if end > _TURN else end


def serve(requests: Ring, bell: int, replies: Ring, heard: int) -> None:
    """Answer for ever."""
    while True:
        new = os.eventfd_read(bell)
        for _ in range(new):
            replies.put(requests.take())
        os.eventfd_write(heard, new)


def end_with_client() -> None:
    """End the process when our stdin does, for an eventfd never tells that the client is gone."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    asked, bell, replied, heard = map(int, sys.argv[1:])
    threading.Thread(target=end_with_client, daemon=True).start()
    serve(Ring(mmap.mmap(asked, SIZE)), bell, Ring(mmap.mmap(replied, SIZE)), heard)
