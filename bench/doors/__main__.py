"""What a question costs through each door, over asking inside one process; and a gateway's memory.

    python -m bench.doors [--questions 500] [--waiting 200]

A scratch home answers with `echo`. The doors take turns, so that a machine that slows down slows
all of them. Beside each door over HTTP stands its control: the same client asks a server of the
same libraries that answers at once, so that what they cost is told apart from what we add. MCP is
asked in three ways: at 2026-07-28, which answers by JSON; the same with progress, which answers by
a stream; and at 2025-11-25, with a handshake and a stream for each answer.

What a door adds is its median less that of `Client.ask` and `wait` in one process. Prints a table,
and the resident memory of the gateway with nobody and with many waiting. Two minutes.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import time
from pathlib import Path

from autopoll.home import operator_token
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from bench import command
from bench.doors import clients, memory

SHUT = Path(__file__).parents[2] / "tests" / "data" / "shut.py"
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
max_connections = {connections}
"""
# Asked without a pause, a question meets the poller still writing down the one before and waits for
# its lock: who asks sooner waits longer, and a door would seem to cost less than nothing.
PAUSE_S = 0.01
TURN = 25  # questions that a door asks before the next one's turn
INSIDE = "one process"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--questions", type=command.number(int, 1, 10**6), default=500, help="through each door"
    )
    parser.add_argument(
        "--waiting", type=command.number(int, 1, memory.MOST_WAITING), default=200,
        help="clients at a time",
    )  # fmt: skip
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = CONFIG.format(
        port=port,
        connections=memory.connections(given.waiting),
        python=json.dumps(sys.executable),
        program=json.dumps(str(SHUT)),
    )
    with scratch_home(text, {}) as scratch, clients.control() as control:
        token = operator_token.create(scratch.home)
        scratch.up(lambda _: None)
        alone = memory.resident(scratch)
        asyncio.run(measure(scratch, port, control, token, given.questions))
        used = memory.resident(scratch)
        many = asyncio.run(memory.with_waiting(scratch, port, token, given.waiting))
    print(f"\ngateway, resident: {alone / 1e6:.1f} MB after its start, {used / 1e6:.1f} MB after")
    print(f"these questions, {many / 1e6:.1f} MB with {given.waiting} clients waiting")
    return 0


async def measure(scratch: Scratch, port: int, control: int, token: str, questions: int) -> None:
    def mcp(at: int, mode: str, *, streams: bool) -> clients.Door:
        return clients.mcp_http(at, token, mode, streams=streams)

    ways: dict[str, list[clients.Door]] = {  # each with its control, where there is one
        INSIDE: [clients.inside(scratch)],
        "REST": [clients.rest(at, token) for at in (port, control)],
        "MCP over HTTP": [mcp(at, "auto", streams=False) for at in (port, control)],
        "  with progress": [mcp(at, "auto", streams=True) for at in (port, control)],
        "  with a handshake": [mcp(at, "legacy", streams=False) for at in (port, control)],
        "MCP over stdio": [clients.mcp_stdio(scratch)],
    }
    times: dict[tuple[str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        doors = {
            (name, place): await stack.enter_async_context(way)
            for name, both in ways.items()
            for place, way in enumerate(both)
        }
        for _ in range(max(1, questions // TURN)):
            for name, ask in doors.items():
                for number in range(TURN):
                    await asyncio.sleep(PAUSE_S)
                    began = time.perf_counter()
                    await ask(f"number {number}")
                    times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    show(times)


def show(times: dict[tuple[str, int], list[float]]) -> None:
    base = statistics.median(times[INSIDE, 0])
    titles = f"{'median ms':>10} {'p99 ms':>8} {'added ms':>9} {'control ms':>11}"
    print(f"{'door':18} {titles}   questions")
    for (name, place), spans in times.items():
        if place:
            continue
        median, p99 = statistics.median(spans), sorted(spans)[len(spans) * 99 // 100]
        control = f"{statistics.median(times[name, 1]):.2f}" if (name, 1) in times else ""
        figures = f"{median:10.2f} {p99:8.2f} {median - base:9.2f} {control:>11}"
        print(f"{name:18} {figures}   {len(spans)}")


if __name__ == "__main__":
    raise SystemExit(command.run(main))
