"""Two bare pipes with an asyncio loop at both ends: how much of a round trip is the loop's."""

import asyncio
import os
from pathlib import Path

from bench.ipc.blocking import HEAD, PIECE
from bench.ipc.contract import FRAME
from bench.ipc.pipes import widened
from bench.ipc.server import start
from bench.ipc.turning import Turning


class Bare(Turning):
    """Reads when the loop says that there is something; writes as the blocking ones do."""

    name = "pipes, asyncio"

    def _join(self, folder: Path) -> None:
        self._turn()
        self.server = start(self._stack, "bare")
        self._reader, self._writer = widened(self.server)
        os.set_blocking(self._reader, False)
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in the pieces
        self._wanted = HEAD.size
        self._loop.add_reader(self._reader, self._readable)
        self._stack.callback(self._loop.remove_reader, self._reader)

    def _ask(self, payload: bytes) -> None:
        data = memoryview(HEAD.pack(len(payload)) + payload)
        while data:
            data = data[os.write(self._writer, data) :]

    def _readable(self) -> None:
        piece = os.read(self._reader, PIECE)
        if not piece:
            self._loop.remove_reader(self._reader)
            self._gone(f"end of file, {self._held - HEAD.size:,} bytes into {FRAME:,}")
            return
        self._pieces.append(piece)
        self._held += len(piece)
        while self._held >= self._wanted:
            if len(self._pieces) > 1:
                self._pieces = [b"".join(self._pieces)]
            data = self._pieces[0]
            size = HEAD.size + int(HEAD.unpack_from(data)[0])
            if len(data) < size:
                self._wanted = size
                return
            self._pieces = [data[size:]]
            self._held -= size
            self._wanted = HEAD.size
            self._heard(data[HEAD.size : size])

    async def _in_a_reply(self) -> None:
        while not self._held:
            await asyncio.sleep(0)
