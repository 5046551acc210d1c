"""The IPC matrix: every channel measured in every respect, in turns.

A figure is named "channel: what"; times are of round trips to an echo server and back.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from bench.cost.figures import Figure, Lap, Point, Say, Spread, interleave
from bench.ipc import CHANNELS
from bench.ipc.bare import Bare
from bench.ipc.contract import Channel, Loss
from bench.ipc.framed import Framed
from bench.ipc.held import Held
from bench.ipc.memory import GIVE_UP_S
from bench.ipc.named import Named
from bench.ipc.pipes import Pipes
from bench.ipc.placement import one_core
from bench.ipc.spawn import Spawn
from bench.ipc.tcp import Tcp

SECTION = "ipc"
ROUNDS = 5
FLOOR = Pipes.name
MS, US, MB = 1e3, 1e6, 1e6
SIZES = {"200 B": 200, "4 KiB": 4096, "64 KiB": 65_536, "1 MiB": 1_048_576}
LAPS = {"200 B": 3000, "4 KiB": 3000, "64 KiB": 600, "1 MiB": 60}  # round trips in a lap
STREAMS = {"200 B": 20_000, "64 KiB": 1000}  # payloads in a lap, with many in flight
EXCHANGES = 100_000
SPAWNED = 20  # requests in any lap of the channel that starts a process for each
SPAWNED_EXCHANGES = 500
STILL_S = 0.1
KILLS = 5
PROCESSES = Path("/proc/stat")

# What our round trip is compared with, beyond the floor: at most so many times as long, if given.
BESIDE: dict[str, dict[str, float | None]] = {
    "200 B": {Pipes.name: 1.3, Bare.name: None, Framed.name: None},
    "64 KiB": {Tcp.name: 1.0, Framed.name: 1.0, Bare.name: None},
}

PLACED = "200 B"

Channels = Mapping[str, Channel]


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return the figures of the matrix; `scale` shortens laps and rounds."""
    rounds = max(1, round(ROUNDS * min(1.0, scale * 2)))
    with ExitStack() as stack:
        channels = {}
        for kind in CHANNELS:
            channels[kind.name] = stack.enter_context(kind(_own(folder, kind)))
            channels[kind.name].converse([bytes(200)] * SPAWNED)  # none is measured cold
        figures = [
            *_round_trips(channels, scale, rounds, say),
            *_throughput(channels, scale, rounds, say),
            *_stillness(channels, scale, rounds, say),
            *_lasting(channels, scale, say),
        ]
    return [*figures, *_deaths(folder, scale, say), *_starts(scale, rounds, say)]


def _round_trips(channels: Channels, scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    for title, size in SIZES.items():
        laps: dict[str, Lap] = {
            name: partial(channel.round_trips, bytes(size), _count(channel, LAPS[title], scale))
            for name, channel in channels.items()
        }
        what = f"round trip {title}"
        # One end works while the other waits, so they take one core; left to itself the kernel now
        # places them on one and now on two, and two cost ten times as much as a small round trip.
        with one_core(channels.values()):
            times = interleave(laps, rounds, _prefixed(say, what))
        for name, spread in times.items():
            figure = _time(f"{name}: {what}", spread, (FLOOR, times[FLOOR]))
            point = Point(name, size, "bytes of a message")
            yield msgspec.structs.replace(figure, point=point)
        for beside, target in BESIDE.get(title, {}).items():
            beyond = f"{Named.name}: {what} beside {beside}"
            yield _time(beyond, times[Named.name], (beside, times[beside]), target)
        if title == PLACED:
            what = f"{what}, placed by the kernel"
            times = interleave(laps, rounds, _prefixed(say, what))
            for name, spread in times.items():
                yield _time(f"{name}: {what}", spread, (FLOOR, times[FLOOR]))


def _throughput(channels: Channels, scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    for title, count in STREAMS.items():
        laps: dict[str, Lap] = {
            name: partial(_stream, channel, SIZES[title], _count(channel, count, scale))
            for name, channel in channels.items()
        }
        each = interleave(laps, rounds, _prefixed(say, f"throughput {title}"))
        for name, spread in each.items():
            rate = 1 / spread.p50
            yield Figure(
                section=SECTION,
                name=f"{name}: throughput {title}",
                value=rate if title == "200 B" else rate * SIZES[title] / MB,
                unit="per_s" if title == "200 B" else "MB_per_s",
                ratio=each[FLOOR].p50 / spread.p50,
                floor=FLOOR,
            )


def _stream(channel: Channel, size: int, count: int) -> list[float]:
    payloads = [bytes(size)] * count
    began = time.perf_counter()
    channel.converse(payloads)
    return [(time.perf_counter() - began) / count]


def _stillness(channels: Channels, scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    """For how long a caller can do nothing else, while the server does nothing at all."""
    still = STILL_S * min(1.0, max(scale, 0.1))

    def hold(channel: Channel) -> list[float]:
        return [channel.hold(still)]

    laps: dict[str, Lap] = {name: partial(hold, each) for name, each in channels.items()}
    held = interleave(laps, rounds, _prefixed(say, "a server that stands still"))
    for name, spread in held.items():
        note = f"by a server that stands still for {still * MS:.0f} ms"
        yield _figure(name, "caller held", spread.p50 * MS, "ms", note)


def _lasting(channels: Channels, scale: float, say: Say) -> Iterator[Figure]:
    """What many exchanges use, and what they leave behind."""
    for name, channel in channels.items():
        count = max(2, round((EXCHANGES if channel.stays else SPAWNED_EXCHANGES) * scale))
        say(f"{name}, {count:,} exchanges")
        payload, note = bytes(200), f"after {count:,} exchanges"
        # The first ones fill caches and free lists, which is no growth.
        channel.round_trips(payload, max(1, min(2000, count // 2)))
        before, starting, processes = Held.of(channel), channel.starting, _processes()
        for start in range(0, count, 1000):
            channel.round_trips(payload, min(1000, count - start))
        processes, starting = _processes() - processes, channel.starting - starting
        held = Held.of(channel)
        descriptors, memory = held.growth(before)
        yield _figure(name, "exact exchanges", count, "count", "the first wrong one ends a run")
        yield _figure(name, "descriptors more", descriptors, "count", note)
        yield _figure(name, "memory more", memory, "bytes", f"client and server, {note}")
        yield _figure(name, "memory of the server", held.server_memory, "bytes", note)
        yield _figure(name, "processes a request", processes / count, "count", "machine-wide")
        yield _figure(name, "starting them", starting / count * US, "us", "a request, until exec")


def _processes() -> int:
    """Return how many entries of the process table were ever made."""
    for line in PROCESSES.read_text("ascii").splitlines():
        if line.startswith("processes "):
            return int(line.split()[1])
    raise LookupError(f"{PROCESSES} does not count processes")


def _deaths(folder: Path, scale: float, say: Say) -> Iterator[Figure]:
    """Kill the server in mid-frame, and ask a new one."""
    losses: dict[str, list[Loss]] = {kind.name: [] for kind in CHANNELS}

    def die(kind: type[Channel]) -> list[float]:
        with kind(_own(folder, kind)) as first:
            losses[kind.name].append(first.lose())
            began = time.perf_counter()
            first.close()
            with kind(_own(folder, kind)) as second:
                second.exchange(bytes(200))
                return [time.perf_counter() - began]

    laps: dict[str, Lap] = {kind.name: partial(die, kind) for kind in CHANNELS}
    back = interleave(laps, max(1, round(KILLS * scale)), _prefixed(say, "kill -9"))
    for name, lost in losses.items():
        seconds = [loss.seconds for loss in lost if loss.seconds is not None]
        # What never notices is given the time after which we gave up; its note says so.
        noticed = statistics.median(seconds) if len(seconds) == len(lost) else GIVE_UP_S
        yield _figure(name, "death noticed", noticed * MS, "ms", lost[-1].sign)
        yield _figure(name, "back", back[name].p50 * MS, "ms", "from there to the next answer")


def _starts(scale: float, rounds: int, say: Say) -> Iterator[Figure]:
    """What a process for each request is made of."""

    def start(*command: str) -> list[float]:
        times = []
        for _ in range(max(2, round(SPAWNED * scale))):
            began = time.perf_counter()
            subprocess.run(command, check=True)
            times.append(time.perf_counter() - began)
        return times

    laps: dict[str, Lap] = {
        "a process that does nothing": partial(start, "true"),
        "a python that does nothing": partial(start, sys.executable, "-I", "-S", "-c", ""),
    }
    for what, spread in interleave(laps, rounds, _prefixed(say, "starting")).items():
        yield _time(f"{Spawn.name}: {what}", spread, None)


def _own(folder: Path, kind: type[Channel]) -> Path:
    own = folder / kind.__name__.lower()
    own.mkdir(exist_ok=True)
    return own


def _count(channel: Channel, count: int, scale: float) -> int:
    return max(2, round((count if channel.stays else min(count, SPAWNED)) * scale))


def _prefixed(say: Say, what: str) -> Say:
    return lambda line: say(f"{what}: {line}")


def _figure(name: str, what: str, value: float, unit: str, note: str) -> Figure:
    return Figure(section=SECTION, name=f"{name}: {what}", value=value, unit=unit, note=note)


def _time(
    name: str,
    spread: Spread,
    beside: tuple[str, Spread] | None,
    target: float | None = None,
) -> Figure:
    floor, below = beside or (None, None)
    return Figure(
        section=SECTION,
        name=name,
        value=spread.p50 * US,
        unit="us",
        p99=spread.p99 * US,
        ratio=spread.p50 / below.p50 if below else None,
        p99_ratio=spread.p99 / below.p99 if below else None,
        floor=floor,
        target=target,
    )
