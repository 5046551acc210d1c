"""What a gateway holds, with nobody and with many waiting."""

import asyncio
import json

import httpx2

from autopoll.ops.selftest.scratch_home import Scratch
from autopoll.process import heartbeat
from autopoll.process.proc_stat import read_stat
from bench.doors.clients import headers


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
