"""What a request over the pipe pair costs, beside a bare pair of pipes in the same run.

    python bench/fifo_roundtrip.py [--count 5000] [--size 200]

Prints the median and the 99th percentile in microseconds, and the ratio of the medians. The bare
pair is os.write and os.read in two processes without a loop: what the kernel alone takes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fifo import link

ECHO = """
import os
while data := os.read(0, 65536):
    while data:
        data = data[os.write(1, data):]
"""


def bare(count: int, size: int) -> list[float]:
    """Time round trips over two pipes with blocking reads and writes."""
    child = subprocess.Popen(
        [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin and child.stdout
    there, back = child.stdin.fileno(), child.stdout.fileno()
    payload, times = bytes(size), []
    for _ in range(count):
        began = time.perf_counter()
        sent = received = 0
        while received < size:
            if sent < size:
                sent += os.write(there, payload[sent : sent + 65536])
            received += len(os.read(back, min(size, sent) - received))
        times.append(time.perf_counter() - began)
    child.stdin.close()
    child.wait()
    child.stdout.close()
    return times


async def serve(folder: Path) -> None:
    """Answer every request with itself."""

    def on_event(event: link.ServerEvent) -> None:
        if isinstance(event, link.RequestReceived):
            server.reply(event.request_id, event.payload)

    server = link.Server(folder, credits=8, on_event=on_event)
    await server.start()
    await asyncio.Event().wait()


async def paired(folder: Path, count: int, size: int) -> list[float]:
    """Time round trips over the pair, with asyncio at both ends."""
    payload, times = bytes(size), []
    done = asyncio.Event()
    began = 0.0

    def ask() -> None:
        nonlocal began
        began = time.perf_counter()
        client.request(1, payload)

    def on_event(event: link.ClientEvent) -> None:
        match event:
            case link.Connected():
                ask()
            case link.ReplyReceived():
                times.append(time.perf_counter() - began)
                if len(times) < count:
                    ask()
                else:
                    done.set()

    client = link.Client(folder, on_event=on_event)
    while not client.connected:
        client.poke()
        await asyncio.sleep(0.01)
    await done.wait()
    client.close()
    return times


def show(name: str, times: list[float]) -> float:
    """Print one line and return the median in microseconds."""
    warm = sorted(one * 1e6 for one in times[len(times) // 10 :])
    median = statistics.median(warm)
    print(f"{name:12} p50 {median:8.1f} µs   p99 {warm[len(warm) * 99 // 100]:8.1f} µs")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--size", type=int, default=200, help="bytes of a request and its reply")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pair"
        server = subprocess.Popen([sys.executable, __file__, "--serve", str(folder)])
        try:
            times = asyncio.run(paired(folder, given.count, given.size))
        finally:
            server.kill()
            server.wait()
    floor = show("bare pipes", bare(given.count, given.size))
    print(f"ratio {show('fifo', times) / floor:.1f}")


if __name__ == "__main__":
    main()
