"""Gives back every frame of a byte stream, by blocking calls.

python blocking.py pipes | tcp PORT | unix PATH
"""

import os
import socket
import struct
import sys

HEAD = struct.Struct("=I")  # length of the payload that follows


def serve(reader: int, writer: int) -> None:
    """Answer until the client is gone."""
    buffer = bytearray(64 * 1024 + HEAD.size)
    filled = 0
    while count := os.readv(reader, [memoryview(buffer)[filled:]]):
        filled += count
        whole = wanted = 0
        while filled - whole >= HEAD.size:
            wanted = HEAD.size + HEAD.unpack_from(buffer, whole)[0]
            if filled - whole < wanted:
                break
            whole += wanted
        if whole:
            write(writer, memoryview(buffer)[:whole])
            buffer[: filled - whole] = buffer[whole:filled]
            filled -= whole
        if wanted > len(buffer):
            buffer.extend(bytes(wanted - len(buffer)))


def write(writer: int, data: memoryview) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(writer, data) :]


def connected(kind: str, address: str) -> socket.socket:
    """Return a socket that is connected to the client."""
    if kind == "tcp":
        joined = socket.create_connection(("127.0.0.1", int(address)))
        joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return joined
    joined = socket.socket(socket.AF_UNIX)
    joined.connect(address)
    return joined


if __name__ == "__main__":
    if sys.argv[1] == "pipes":
        serve(0, 1)
    else:
        with connected(*sys.argv[1:]) as joined:
            serve(joined.fileno(), joined.fileno())
