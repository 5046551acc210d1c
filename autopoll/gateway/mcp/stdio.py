"""MCP over stdin and stdout: one client, for as long as its end of the pipe is open."""

import asyncio
import codecs
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, cast

from mcp.server.stdio import stdio_server

from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.call import Owner
from autopoll.gateway.mcp.mcp_server import make_server
from autopoll.gateway.mcp.rpc import INVALID_REQUEST, Fault, read
from autopoll.gateway.mcp.wire import Wire
from autopoll.home.config import Config
from autopoll.home.home import Home

LONGEST = 32 * 1024 * 1024  # bytes of a line; a message of the largest kind fits, escaped
CHUNK = 64 * 1024
TOO_LONG = b""  # no line is empty
_TOO_LONG = [Fault(INVALID_REQUEST, f"Invalid Request: longer than {LONGEST} bytes")]

log = logging.getLogger(__name__)


def run(home: Home, config: Config, wire: Wire) -> None:
    """Serve until stdin ends or TERM comes. Whoever is waiting stops; the questions stay."""
    asyncio.run(_serve(home, config, wire))


async def _serve(home: Home, config: Config, wire: Wire) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    log.info("begins", extra={"pid": os.getpid()})
    lines, paper = Lines(wire.read), Paper(wire.write, end)
    try:
        async with Hub(home, config) as hub:
            owner = Owner(hub)
            server = make_server(hub, lambda _request: owner)
            # Only what is used of an anyio.AsyncFile is there.
            messages = Messages(lines, paper)
            async with stdio_server(cast(Any, messages), cast(Any, paper)) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
    except asyncio.CancelledError:
        if not ended:
            raise
    log.info("ends", extra={"pid": os.getpid()})


class Messages:
    """The lines that are messages; what is none is logged, and answered at once on the paper."""

    def __init__(self, lines: "Lines", paper: "Paper") -> None:
        self._lines = lines
        self._paper = paper

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._lines:
            faults = _TOO_LONG if line is TOO_LONG else read(line)[1]
            for fault in faults:
                log.warning("refused: %s", fault.message)
                if fault.is_told:
                    await self._paper.write(fault.line())
            if not faults:
                yield line.removeprefix(codecs.BOM_UTF8).decode()


class Lines:
    """The lines of a descriptor, read in a thread of its own; TOO_LONG stands for one that is.

    The last one needs no end: half a message is told apart by what it lacks.

    A daemon and not one of asyncio's, because a thread that waits in read() for a client that says
    nothing would hold up the end of the process. Works with pipes, files and terminals alike.
    """

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        reader = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        reader.start()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (line := await self._lines.get()) is not None:
            yield line

    def _read(self, descriptor: int) -> None:
        held = bytearray()
        skipping = False
        try:
            while chunk := os.read(descriptor, CHUNK):
                *whole, rest = chunk.split(b"\n")
                for part in whole:
                    held += part
                    if not skipping and held.strip():
                        self._hand_over(bytes(held))
                    held.clear()
                    skipping = False
                held += rest
                if len(held) > LONGEST:  # answered as what cannot be read, and dropped to its end
                    if not skipping:
                        self._hand_over(TOO_LONG)
                    skipping = True
                    held.clear()
            if held.strip() and not skipping:
                self._hand_over(bytes(held))
        except OSError as error:
            log.warning("stdin cannot be read: %s", error)
        self._hand_over(None)

    def _hand_over(self, line: bytes | None) -> None:
        """Wait until the line is taken, so that a client that floods is slowed down."""
        try:
            asyncio.run_coroutine_threadsafe(self._lines.put(line), self._loop).result()
        except RuntimeError:  # the loop has ended, and nobody reads any more
            raise SystemExit from None


class Paper:
    """A descriptor to write lines on, in a thread like that of `Lines`, for a client may be slow.

    `gone` is called when the client has closed its end.
    """

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._sheets: SimpleQueue[tuple[bytes, asyncio.Event]] = SimpleQueue()
        writer = threading.Thread(target=self._write, args=(descriptor,), daemon=True)
        writer.start()

    async def write(self, text: str) -> None:
        """Write all of it."""
        written = asyncio.Event()
        self._sheets.put((text.encode(), written))
        await written.wait()

    async def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def _write(self, descriptor: int) -> None:
        while True:
            data, written = self._sheets.get()
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
            except OSError as error:
                log.warning("stdout cannot be written: %s", error)
                self._tell(self._gone)
            self._tell(written.set)

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(what)
