"""How many instructions an exchange costs, layer by layer: the same on a busy machine.

    python -m bench.steps [--count 100] [--size 200] [--page docs/ipc.md]

Each layer runs as one process, with both ends on one loop, under callgrind: once with many
exchanges and once with twice as many, so that the difference is what they cost and nothing else.
What the kernel does is not counted. Needs valgrind.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count as numbers
from pathlib import Path
from typing import Any

from bench import markers
from fifo import events
from fifo.client_end import ClientEnd
from fifo.client_session import ClientSession
from fifo.frame import MAX_PAYLOAD, Decoder, Type, header
from fifo.server_end import ServerEnd
from fifo.server_session import ServerSession
from fifo.session import VERSIONS

MARK = "steps"  # of the table in a page
COUNTING = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable)
EPOCH = 1_700_000_000_000
CONFIG = '[shards.main]\nbackend = "echo"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--size", type=int, default=200, help="bytes of a payload")
    parser.add_argument("--page", type=Path, help="a page whose table is to be made anew")
    parser.add_argument("--layer", choices=LAYERS, help="run one, without counting")
    given = parser.parse_args()
    if given.layer:
        LAYERS[given.layer](bytes(given.size), given.count)
        return
    rows = table({name: instructions(name, given.size, given.count) for name in LAYERS})
    print("\n".join(rows))
    if given.page:
        markers.fill(given.page, MARK, "\n".join(rows))


def table(found: dict[str, float]) -> list[str]:
    """Return Markdown: what each layer adds to those below it."""
    rows = {
        "the loop: two bare pipes, asyncio": found["loop"],
        "frames: header, checks, crc32": found["frames"],
        "sessions: moves, ids, credits, events": found["sessions"] - found["frames"],
        "wires and links: queue, owner": found["links"] - found["sessions"] - found["loop"],
        "together: a round trip of `fifo`": found["links"],
        "a worker with its heartbeat, beyond that": found["worker"] - found["links"],
    }
    lines = [f"| {what} | {cost:,.0f} |" for what, cost in rows.items()]
    return ["| an exchange | instructions |", "| --- | ---: |", *lines]


def instructions(layer: str, size: int, count: int) -> float:
    """Return what one exchange costs."""
    once, twice = (_counted(layer, size, times) for times in (count, 2 * count))
    return (twice - once) / count


def _counted(layer: str, size: int, count: int) -> int:
    done = subprocess.run(
        [
            *COUNTING,
            "-m",
            "bench.steps",
            "--layer",
            layer,
            "--size",
            str(size),
            "--count",
            str(count),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{layer} failed:\n{done.stderr}")
    return int(found[1])


# --- the layers


def loop(payload: bytes, count: int) -> None:
    """Write to one bare pipe what came from the other, at both ends."""

    async def run() -> None:
        turning = asyncio.get_running_loop()
        done = turning.create_future()
        requests, replies = os.pipe(), os.pipe()
        left = count

        def asked() -> None:
            os.write(replies[1], os.read(requests[0], 96 * 1024))

        def answered() -> None:
            nonlocal left
            assert os.read(replies[0], 96 * 1024) == payload
            left -= 1
            if left:
                os.write(requests[1], payload)
            else:
                done.set_result(None)

        turning.add_reader(requests[0], asked)
        turning.add_reader(replies[0], answered)
        os.write(requests[1], payload)
        await done

    asyncio.run(run())


def frames(payload: bytes, count: int) -> None:
    """Make bytes of a frame and a frame of the bytes, for a request and for its reply."""
    decoder = Decoder(MAX_PAYLOAD)
    kinds = (Type.REQUEST, Type.REPLY)
    for number in range(count):
        for kind in kinds:
            decoder.feed(header(kind, EPOCH, number, payload) + payload)
            for frame in decoder.frames():
                assert frame.payload == payload


def sessions(payload: bytes, count: int) -> None:
    """Hand the bytes of one session to the other."""
    sent: list[bytes] = []

    def send(head: bytes, payload: bytes, *_: Any) -> None:
        sent.append(head + payload)

    server = ServerSession(
        EPOCH,
        send,
        max_payload=MAX_PAYLOAD,
        pid=1,
        credits=1,
        numbers=numbers(1),
    )
    client = ClientSession(EPOCH, send, max_payload=MAX_PAYLOAD)
    client.hello(2, VERSIONS[-1])
    list(server.receive(sent.pop()))
    list(client.receive(sent.pop()))
    for number in range(count):
        client.request(number, payload)
        for event in server.receive(sent.pop()):
            assert isinstance(event, events.RequestReceived)
            server.reply(event.request_id, event.payload)
        for back in client.receive(sent.pop()):
            assert isinstance(back, events.ReplyReceived)


def links(payload: bytes, count: int) -> None:
    """Ask a server on our own loop."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:

            def on_event(event: events.ServerEvent) -> None:
                if isinstance(event, events.RequestReceived):
                    server.reply(event.request_id, event.payload)

            server = ServerEnd(Path(folder, "pair"), credits=1, on_event=on_event)
            await server.start()
            await ask(Path(folder, "pair"), payload, payload, count)
            await server.close()

    asyncio.run(run())


def worker(payload: bytes, count: int) -> None:
    """Ask a worker with the backend echo; its heartbeat included."""
    import msgspec  # here, as all of it takes seconds to load under callgrind

    from autopoll.home.config import load
    from autopoll.home.home import Home
    from autopoll.message import Answer
    from autopoll.process.heartbeat_writer import Heart
    from autopoll.request import Reply, Request
    from autopoll.worker.instance import Instance
    from autopoll.worker.worker import Worker

    question = payload.decode("ascii")
    request = Request(
        delivery=1, fence=1, attempt=1, timeout_ms=60_000, conversation="c" * 22, question=question
    )
    asked = msgspec.msgpack.encode(request)
    answer = msgspec.msgpack.encode(Reply(answer=Answer(text=question)))

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder))
            home.config.write_text(CONFIG)
            home.make_private()
            with Heart.open(home.beats, "worker", "worker") as heart:
                config = load(home, {})
                instance = Instance(home, config, "main", "worker")
                serving = Worker(config, "main", instance, heart)
                running = asyncio.create_task(serving.run())
                await instance.warm.wait()
                await ask(home.workers / instance.name, asked, answer, count)
                serving.stop()
                await running

    asyncio.run(run())


async def ask(folder: Path, payload: bytes, answer: bytes, count: int) -> None:
    """Ask whoever serves the folder, one request after the other."""
    done = asyncio.get_running_loop().create_future()
    left = count

    def on_event(event: events.ClientEvent) -> None:
        nonlocal left
        match event:
            case events.Connected() | events.ReplyReceived():
                if isinstance(event, events.ReplyReceived):
                    assert event.payload == answer
                    left -= 1
                if left:
                    client.request(left, payload)
                else:
                    done.set_result(None)
            case events.FailureReceived() | events.Disconnected() | events.Unreachable():
                done.set_exception(ConnectionError(str(event)))

    client = ClientEnd(folder, on_event=on_event)
    client.poke()
    await done
    client.close()


LAYERS: dict[str, Callable[[bytes, int], None]] = {
    each.__name__: each for each in (loop, frames, sessions, links, worker)
}

if __name__ == "__main__":
    main()
