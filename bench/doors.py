"""What a question costs through each door, over asking inside one process; and a gateway's memory.

    python -m bench.doors [--questions 500] [--waiting 200]

A scratch home answers with `echo`. The doors take turns, so that a machine that slows down slows
all of them; each asks over one connection that stays open, MCP by the official client. What a door
adds is its median less that of `Client.ask` and `wait` in one process, and as a ratio. Prints a
table and the resident memory of the gateway with nobody and with many waiting. A minute.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.home import operator_token
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat

SHUT = Path(__file__).parents[1] / "tests" / "data" / "shut.py"
CONFIG = """
[access]
rate_per_second = 100000.0
rate_burst = 1000000
[shards.main]
backend = "echo"
[shards.shut]
backend = "command"
options = {{ command = [{python}, {program}], concurrency = 4 }}
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
"""
# Asked without a pause, a question meets the poller still writing down the one before and waits for
# its lock: who asks sooner waits longer, and a door would seem to cost less than nothing.
PAUSE_S = 0.01
TURN = 25  # questions that a door asks before the next one's turn
Ask = Callable[[str], Awaitable[None]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=500, help="through each door")
    parser.add_argument("--waiting", type=int, default=200)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = CONFIG.format(
        port=port, python=json.dumps(sys.executable), program=json.dumps(str(SHUT))
    )
    with scratch_home(text, {}) as scratch:
        token = operator_token.create(scratch.home)
        scratch.up(lambda _: None)
        asyncio.run(measure(scratch, port, token, given.questions, given.waiting))
    return 0


async def measure(scratch: Scratch, port: int, token: str, questions: int, waiting: int) -> None:
    alone = resident(scratch)
    times: dict[str, list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        doors: dict[str, Ask] = {
            "one process": await stack.enter_async_context(inside(scratch)),
            "REST": await stack.enter_async_context(rest(port, token)),
            "MCP over HTTP": await stack.enter_async_context(mcp_http(port, token)),
            "MCP over stdio": await stack.enter_async_context(mcp_stdio(scratch)),
        }
        for _ in range(max(1, questions // TURN)):
            for name, ask in doors.items():
                for number in range(TURN):
                    await asyncio.sleep(PAUSE_S)
                    began = time.perf_counter()
                    await ask(f"number {number}")
                    times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    show(times)
    used = resident(scratch)
    many = await with_waiting(scratch, port, token, waiting)
    print(f"\ngateway, resident: {alone / 1e6:.1f} MB after its start, {used / 1e6:.1f} MB after")
    print(f"these questions, {many / 1e6:.1f} MB with {waiting} clients waiting")


def show(times: dict[str, list[float]]) -> None:
    base = statistics.median(times["one process"])
    print(f"{'door':16} {'median ms':>10} {'p99 ms':>8} {'added ms':>9} {'ratio':>6}   questions")
    for name, spans in times.items():
        ordered = sorted(spans)
        median, p99 = statistics.median(ordered), ordered[len(ordered) * 99 // 100]
        added, ratio = median - base, median / base
        print(f"{name:16} {median:10.2f} {p99:8.2f} {added:9.2f} {ratio:6.1f}   {len(spans)}")


# --- the doors


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
async def mcp_http(port: int, token: str) -> AsyncIterator[Ask]:
    shown = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=shown, timeout=60) as client:
        transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=client)
        async with McpClient(transport) as agent:
            yield calling(agent)


@contextlib.asynccontextmanager
async def mcp_stdio(scratch: Scratch) -> AsyncIterator[Ask]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "autopoll", "mcp"],
        env=scratch.environ, cwd=scratch.home.root,
    )  # fmt: skip
    with Path(os.devnull).open("w") as nowhere:
        async with McpClient(stdio_client(server, nowhere)) as agent:
            yield calling(agent)


def calling(agent: McpClient) -> Ask:
    async def ask(question: str) -> None:
        result = await agent.call_tool("ask", {"question": question})
        assert result.structured_content
        assert result.structured_content["answer"] == question

    return ask


def headers(token: str) -> dict[str, str]:
    shown = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return {**shown, "Prefer": "wait=30"}


# --- memory


def resident(scratch: Scratch) -> int:
    """Return the gateway's resident bytes."""
    beat = heartbeat.read(scratch.home.beats / "gateway")
    assert beat
    reading = read_stat(beat.pid)
    assert reading
    return reading.rss_bytes


async def with_waiting(scratch: Scratch, port: int, token: str, count: int) -> int:
    """Return the gateway's resident bytes while so many wait for a shard that answers nothing."""
    body = json.dumps({"question": "shut?", "shard": "shut"}).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(token).items())
    head = f"POST /v1/questions HTTP/1.1\r\nHost: localhost\r\n{lines}"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writers.append(writer)
    while f"autopoll_gateway_waiting {count}.0" not in await metrics(port, token):
        await asyncio.sleep(0.1)
    most = resident(scratch)
    for writer in writers:
        writer.close()
    return most


async def metrics(port: int, token: str) -> str:
    shown = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=shown, timeout=60) as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


if __name__ == "__main__":
    raise SystemExit(main())
