"""What a gateway holds, with nobody and with many waiting."""

import asyncio
import json
import time

import httpx2

from autopoll.errors import AutopollError
from autopoll.ops.selftest.scratch_home import Scratch
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from bench.doors.clients import WAIT_S, headers

MOST_WAITING = 5000
_LEAST_CONNECTIONS = 512  # the default of the setting
_STEP_S = 0.1


def connections(waiting: int) -> int:
    """Return how many connections a gateway must take at a time so that so many can wait.

    It keeps a quarter for those that have not shown a token, as all do while they arrive.
    """
    return max(_LEAST_CONNECTIONS, 2 * waiting)


def resident(scratch: Scratch) -> int:
    """Return the gateway's resident bytes."""
    beat = heartbeat.read(scratch.home.beats / "gateway")
    assert beat
    reading = read_stat(beat.pid)
    assert reading
    return reading.rss_bytes


async def with_waiting(scratch: Scratch, port: int, token: str, count: int) -> int:
    """Return the gateway's resident bytes while so many wait for a shard that answers nothing.

    Raise AutopollError when they do not all wait at the same time.
    """
    body = json.dumps({"question": "shut?", "shard": "shut"}).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(token).items())
    head = f"POST /v1/questions HTTP/1.1\r\nHost: localhost\r\n{lines}"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    writers = []
    end = time.monotonic() + WAIT_S  # after which the first of them no longer waits
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writers.append(writer)
    while f"autopoll_gateway_waiting {count}.0" not in await metrics(port, token):
        if time.monotonic() > end:
            raise AutopollError(
                f"of {count} clients not all were waiting within {WAIT_S} s",
                "Try fewer, with --waiting.",
            )
        await asyncio.sleep(_STEP_S)
    most = resident(scratch)
    for writer in writers:
        writer.close()
    return most


async def metrics(port: int, token: str) -> str:
    shown = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=shown, timeout=60) as client:
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text
