"""Gives back every frame of a pair of bare pipes, its stdin and stdout, from an asyncio loop."""

import asyncio
import os
import struct

HEAD = struct.Struct("=I")  # length of the payload that follows
PIECE = 64 * 1024 + HEAD.size


def main() -> None:
    """Answer until the client is gone."""
    loop = asyncio.new_event_loop()
    pieces: list[bytes] = []
    held, wanted = 0, HEAD.size

    def readable() -> None:
        nonlocal held, wanted
        piece = os.read(0, PIECE)
        if not piece:
            loop.stop()
        pieces.append(piece)
        held += len(piece)
        if held < wanted:
            return
        data = b"".join(pieces) if len(pieces) > 1 else piece
        whole, wanted = 0, HEAD.size
        while len(data) - whole >= HEAD.size:
            size = HEAD.size + HEAD.unpack_from(data, whole)[0]
            if len(data) - whole < size:
                wanted = size
                break
            whole += size
        write(memoryview(data)[:whole])
        held -= whole
        pieces[:] = [data[whole:]] if held else []

    os.set_blocking(0, False)
    loop.add_reader(0, readable)
    loop.run_forever()
    loop.close()


def write(data: memoryview) -> None:
    """Write all of it, and wait for room where there is none."""
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
