"""The client of a byte stream, by blocking calls: the best that any stream can do."""

import os
import struct
import time
from collections.abc import Iterable, Sequence

from bench.ipc.contract import FRAME, Channel, Loss
from bench.ipc.window import Window

HEAD = struct.Struct("=I")  # length of the payload that follows
PIECE = 64 * 1024 + HEAD.size
_AT_ONCE = 1024  # buffers in one writev


class Blocking(Channel):
    """Writes to one descriptor and reads from the other; a socket is both."""

    reader: int
    writer: int

    def exchange(self, payload: bytes) -> bytes:
        """Send one payload and return what came back."""
        self._send((payload,))
        pieces = [os.read(self.reader, PIECE)]
        got = len(pieces[0])
        while got < HEAD.size:
            got += self._more(pieces, HEAD.size - got)
        if len(pieces) > 1:
            pieces = [b"".join(pieces)]
        size = HEAD.size + int(HEAD.unpack_from(pieces[0])[0])
        while got < size:
            got += self._more(pieces, size - got)
        pieces[0] = pieces[0][HEAD.size :]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def converse(self, payloads: Sequence[bytes]) -> None:
        """Exchange the payloads in order; what may go out together is one write."""
        window = Window(payloads)
        rest = b""
        while not window.done:
            if batch := window.fill():
                self._send(batch)
            pieces = [rest]
            self._more(pieces, PIECE)
            rest = b"".join(pieces)
            start = 0
            while len(rest) - start >= HEAD.size:
                end = start + HEAD.size + int(HEAD.unpack_from(rest, start)[0])
                if len(rest) < end:
                    break
                window.take(rest[start + HEAD.size : end])
                start = end
            rest = rest[start:]

    def lose(self) -> Loss:
        """Kill the server when the first bytes of its reply are there, and read to the end."""
        self._send((bytes(FRAME),))
        got = len(os.read(self.reader, HEAD.size + 1)) - HEAD.size
        killed = self._kill()
        sign = "end of file"
        try:
            while piece := os.read(self.reader, PIECE):
                got += len(piece)
        except ConnectionResetError:
            sign = "connection reset"
        return loss(killed, sign, got)

    def _send(self, payloads: Iterable[bytes]) -> None:
        buffers: list[bytes | memoryview] = []
        for payload in payloads:
            buffers += (HEAD.pack(len(payload)), payload)
        while buffers:
            written = os.writev(self.writer, buffers[:_AT_ONCE])
            done = 0
            while done < len(buffers) and written >= len(buffers[done]):
                written -= len(buffers[done])
                done += 1
            del buffers[:done]
            if buffers:
                buffers[0] = memoryview(buffers[0])[written:]

    def _more(self, pieces: list[bytes], size: int) -> int:
        piece = os.read(self.reader, size)
        if not piece:
            raise EOFError(f"the server of {self.name} is gone")
        pieces.append(piece)
        return len(piece)


def loss(killed: float, sign: str, got: int) -> Loss:
    """Describe what was noticed just now, `got` bytes into a reply."""
    return Loss(time.perf_counter() - killed, f"{sign}, {got:,} bytes into {FRAME:,}")
