"""Lines off a descriptor, as the server over stdin reads them."""

import asyncio
import os
import threading

import pytest

from autopoll.gateway.mcp import stdio
from autopoll.gateway.mcp.stdio import StdinReader, StdoutWriter


def lines(*chunks: bytes) -> list[bytes]:
    """Return what is read of chunks that come one after the other, and then end."""
    read, write = os.pipe()

    def feed() -> None:
        for chunk in chunks:
            os.write(write, chunk)
        os.close(write)

    async def main() -> list[bytes]:
        threading.Thread(target=feed, daemon=True).start()
        async with asyncio.timeout(20):
            return [line async for line in StdinReader(read)]

    try:
        return asyncio.run(main())
    finally:
        os.close(read)


def test_lines_are_whole_however_they_come() -> None:
    assert lines(b"one\ntw", b"o\n", b"\n", b"  \n", b"three\r\n\nfour\n") == [
        b"one",
        b"two",
        b"three\r",
        b"four",
    ]


def test_the_last_line_needs_no_end() -> None:
    assert lines(b"whole\nbroken off") == [b"whole", b"broken off"]
    assert lines(b"whole\n", b" \r") == [b"whole"]


def test_a_line_beyond_the_limit_is_told_and_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "LONGEST", 100_000)
    monkeypatch.setattr(stdio, "CHUNK", 1000)
    assert lines(b"first\n", b"x" * 350_000, b"y\nlast\n") == [b"first", stdio.TOO_LONG, b"last"]
    assert lines(b"y" * 350_000) == [stdio.TOO_LONG]
    assert lines(b"z" * 99_000 + b"\n") == [b"z" * 99_000]


def test_a_reader_that_takes_its_time_holds_the_writer_up() -> None:
    read, write = os.pipe()
    written = 0

    def flood() -> None:
        nonlocal written
        while written < 10_000_000:
            written += os.write(write, b"x" * 999 + b"\n")
        os.close(write)

    async def main() -> None:
        nonlocal written
        writer = threading.Thread(target=flood, daemon=True)
        writer.start()
        count = 0
        async with asyncio.timeout(60):
            async for _ in StdinReader(read):
                count += 1
                if count == 1:
                    last = -1
                    while last != written:  # until it stands still
                        last = written
                        await asyncio.sleep(0.05)
                    assert written < 1_000_000
        assert count == 10_000

    asyncio.run(main())
    os.close(read)


def test_a_client_that_is_gone_is_told_of_once_and_holds_up_nobody() -> None:
    read, write = os.pipe()
    os.close(read)

    async def main() -> int:
        gone = 0

        def tell() -> None:
            nonlocal gone
            gone += 1

        async with asyncio.timeout(20):
            await StdoutWriter(write, tell).write("anybody there?\n")
        return gone

    assert asyncio.run(main()) == 1
    os.close(write)
