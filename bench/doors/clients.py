"""A client of each door: an async context manager that gives what asks one question.

Each keeps one connection open; those of MCP are the official client. All check the answer.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.ops.selftest.scratch_home import Scratch

WAIT_S = 30  # for an answer
Ask = Callable[[str], Awaitable[None]]
Door = contextlib.AbstractAsyncContextManager[Ask]


@contextlib.asynccontextmanager
async def inside(scratch: Scratch) -> AsyncIterator[Ask]:
    with (
        contextlib.closing(connect(scratch.home, scratch.config)) as bridge,
        PollerConnection(scratch.home) as connection,
    ):
        client = Client(scratch.home, scratch.config, bridge)

        async def ask(question: str) -> None:
            [result] = client.wait(
                client.ask([question], "main", connection=connection).ids, connection
            )
            assert result.answer == question

        yield ask


@contextlib.asynccontextmanager
async def rest(port: int, token: str) -> AsyncIterator[Ask]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def ask(question: str) -> None:
        body = json.dumps({"question": question})
        connection.request("POST", "/v1/questions", body, headers(token))
        assert json.load(connection.getresponse())["answer"] == question

    yield ask
    connection.close()


@contextlib.asynccontextmanager
async def mcp_http(port: int, token: str, mode: str, *, streams: bool) -> AsyncIterator[Ask]:
    """Ask over HTTP; `streams` asks for progress too, so that the answer comes as a stream."""
    shown = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=shown, timeout=60) as client:
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=client)
        async with McpClient(transport, mode=mode) as agent:
            yield calling(agent, streams=streams)


@contextlib.asynccontextmanager
async def mcp_stdio(scratch: Scratch) -> AsyncIterator[Ask]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "autopoll", "mcp"],
        env=scratch.environ, cwd=scratch.home.root,
    )  # fmt: skip
    with Path(os.devnull).open("w") as nowhere:
        async with McpClient(stdio_client(server, nowhere)) as agent:
            yield calling(agent, streams=False)


def calling(agent: McpClient, *, streams: bool) -> Ask:
    async def progress(*_: Any) -> None:
        pass

    async def ask(question: str) -> None:
        result = await agent.call_tool(
            "ask", {"question": question}, progress_callback=progress if streams else None
        )
        assert result.structured_content
        assert result.structured_content["answer"] == question

    return ask


def headers(token: str) -> dict[str, str]:
    shown = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return {**shown, "Prefer": f"wait={WAIT_S}"}


@contextlib.contextmanager
def control() -> Iterator[int]:
    """Run the control in a process of its own, and give its port."""
    command = [sys.executable, "-m", "bench.doors.control"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()
