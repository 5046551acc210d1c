"""What a home costs that nobody asks anything, and how soon it is there when somebody does."""

import time
from pathlib import Path

from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.process import heartbeat
from bench.cost import commands, foreign
from bench.cost.figures import Figure, Say, interleave
from bench.cost.prose import Prose
from bench.cost.upkeep import Upkeep, upkeep

SECTION = "idle"
SECONDS = 60.0
SETTLE_S = 5.0  # what a start leaves to do, and the looks after a write, are over
STARTS = 5
CONTEXT_BYTES = 100_000
SEED = 5
CONFIG = '[shards.main]\nbackend = "extract"\ncontext = ["manual"]\n'
READY_S = 2.0
TOGETHER_PERCENT = 0.3  # of a core
MEMORY = {"poller": 40e6, "worker": 45e6, "watchdog": 30e6}


def measure(scale: float, folder: Path, say: Say) -> list[Figure]:
    """Return the figures of starting, of asking, of foreign writers, and then of a quiet minute.

    The minute comes last, so that what was asked before is among what the processes hold.
    """
    figures = [_starts(scale, folder, say)]
    with scratch_home(CONFIG, {}, folder) as scratch:
        _up(scratch)
        figures += commands.measure(scratch, scale, say)
        figures += foreign.measure(scratch, scale, say)
        figures += _rest(scratch, scale, say)
    return figures


def _starts(scale: float, folder: Path, say: Say) -> Figure:
    def start() -> list[float]:
        with scratch_home(CONFIG, {}, folder) as scratch:
            return [_up(scratch)]

    found = interleave({"start": start}, max(1, round(STARTS * min(scale, 1))), say)["start"]
    return Figure(
        section=SECTION,
        name="up until ready",
        value=found.p50,
        unit="s",
        target=READY_S,
        note=f"a new home with one extract worker and {CONTEXT_BYTES // 1000} kB of context",
    )


def _up(scratch: Scratch) -> float:
    """Start a home that has something to answer from; return the seconds until it is ready."""
    Prose(SEED).write(scratch.home.root / "manual", CONTEXT_BYTES)
    start = time.perf_counter()
    scratch.up(lambda _: None)
    return time.perf_counter() - start


def _rest(scratch: Scratch, scale: float, say: Say) -> list[Figure]:
    """Return what each process uses while nobody asks."""
    pids = {beat.role: beat.pid for beat in heartbeat.read_all(scratch.home.beats)}
    pids["supervisord"] = int((scratch.home.run / "supervisord.pid").read_text("ascii"))
    seconds = SECONDS * min(scale, 1)
    time.sleep(min(SETTLE_S, seconds))
    say(f"resting for {seconds:.0f} s")
    before = {name: upkeep(pid) for name, pid in pids.items()}
    start = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    after = {name: upkeep(pid) for name, pid in pids.items()}
    shares = {name: _share(before[name], after[name], took) for name in pids}
    figures = [
        Figure(
            section=SECTION,
            name="CPU of all processes together",
            value=sum(shares.values()),
            unit="percent",
            target=TOGETHER_PERCENT,
            note=f"of one core, over {took:.0f} s",
        )
    ]
    for name in sorted(pids):
        figures += [
            Figure(section=SECTION, name=f"CPU of {name}", value=shares[name], unit="percent"),
            Figure(
                section=SECTION,
                name=f"wake-ups of {name} a second",
                value=after[name].wakeups_since(before[name]) / took,
                unit="count",
            ),
            Figure(
                section=SECTION,
                name=f"memory of {name}",
                value=after[name].resident_bytes,
                unit="bytes",
                target=MEMORY.get(name),
                note="resident, with what it shares",
            ),
        ]
    return figures


def _share(before: Upkeep, after: Upkeep, seconds: float) -> float:
    return 100 * (after.cpu_s - before.cpu_s) / seconds
