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
from autopoll.gateway.mcp.mcp_server import McpServer
from autopoll.gateway.mcp.rpc import INVALID_REQUEST, RpcError, parse
from autopoll.gateway.mcp.stdio_transport import StdioTransport
from autopoll.home.config import Config
from autopoll.home.home import Home

LONGEST = 32 * 1024 * 1024  # bytes of a line; a message of the largest kind fits, escaped
CHUNK = 64 * 1024
TOO_LONG = b""  # no line is empty
_TOO_LONG = [RpcError(INVALID_REQUEST, f"Invalid Request: longer than {LONGEST} bytes")]

log = logging.getLogger(__name__)


def run(home: Home, config: Config, read: int, write: int) -> None:
    """Serve over two descriptors until the first ends, or TERM comes; questions are kept."""
    asyncio.run(_serve(home, config, read, write))


async def _serve(home: Home, config: Config, read: int, write: int) -> None:
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
    log.info("serving over stdin and stdout", extra={"pid": os.getpid()})
    reader, writer = StdinReader(read), StdoutWriter(write, end)
    try:
        async with Hub(home, config) as hub, StdioTransport(hub) as transport:
            server = McpServer(transport)
            # Only what is used of an anyio.AsyncFile is there.
            checked = CheckedLines(reader, writer)
            async with stdio_server(cast(Any, checked), cast(Any, writer)) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
    except asyncio.CancelledError:
        if not ended:
            raise
    log.info("ended", extra={"pid": os.getpid()})


class CheckedLines:
    """The lines that are messages; what is none is logged, and answered at once."""

    def __init__(self, reader: "StdinReader", writer: "StdoutWriter") -> None:
        self._reader = reader
        self._writer = writer

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._reader:
            errors = _TOO_LONG if line is TOO_LONG else parse(line)[1]
            for error in errors:
                log.warning("refused: %s", error.message)
                if error.is_sent:
                    await self._writer.write(error.line())
            if not errors:
                yield line.removeprefix(codecs.BOM_UTF8).decode()


class StdinReader:
    """The lines of a descriptor, read in a thread of its own; TOO_LONG stands for one that is.

    The last one needs no end: half a message is known by what it lacks.

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


class StdoutWriter:
    """Writes lines on a descriptor, in a thread like that of StdinReader: a client may be slow.

    `gone` is called when the client has closed its end.
    """

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        self._waiting: SimpleQueue[tuple[bytes, asyncio.Event]] = SimpleQueue()
        writer = threading.Thread(target=self._write, args=(descriptor,), daemon=True)
        writer.start()

    async def write(self, text: str) -> None:
        """Write all of it."""
        written = asyncio.Event()
        self._waiting.put((text.encode(), written))
        await written.wait()

    async def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def _write(self, descriptor: int) -> None:
        while True:
            data, written = self._waiting.get()
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
