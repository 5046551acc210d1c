"""What a home holds on to: memory and descriptors of each process after many questions.

    python bench/soak.py [--questions 100000] [--first 1000]

Promised: resident memory within 3 % of what it was after the first 1,000 questions, and not one
descriptor more. Exit 1 when it does not hold. Measured when nothing has been in flight for a while,
as the least of several readings: what the allocator is about to hand back is no leak.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from autopoll import config
from autopoll.home import Home
from autopoll.process import heartbeat
from autopoll.service import Service, Waiter, connect

CONFIG = """
[shards.main]
backend = "echo"
options = { concurrency = 8 }
[access]
rate_per_second = 1000000.0
rate_burst = 1000000
"""
BATCH = 100
ALLOWED = 0.03
QUIET_S, READINGS = 10.0, 20


@dataclass
class Size:
    """What one process holds."""

    rss: int
    fds: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=1_000, help="after how many to measure first")
    given = parser.parse_args()
    script = Path(sys.executable).parent / "autopoll"
    with tempfile.TemporaryDirectory(prefix="autopoll-soak-") as folder:
        root = Path(folder)
        (root / "autopoll.toml").write_text(CONFIG)
        subprocess.run([script, "init"], cwd=root, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([script, "up"], cwd=root, check=True, stdout=subprocess.DEVNULL)
        try:
            return soak(Home(root), given.first, given.questions)
        finally:
            subprocess.run([script, "down"], cwd=root, check=True, stdout=subprocess.DEVNULL)


def soak(home: Home, first: int, last: int) -> int:
    """Ask, measure on the way, and return the exit code."""
    settings = config.load(home)
    service = Service(home, settings, connect(home, settings))
    pids = processes(home)
    began = time.monotonic()
    asked = 0
    sizes: dict[int, dict[str, Size]] = {}
    with Waiter(home) as waiter:
        for mark in marks(first, last):
            while asked < mark:
                questions = [f"question {asked + each}" for each in range(min(BATCH, mark - asked))]
                ids = service.ask(questions, "main", waiter=waiter).ids
                answers = [result.answer for result in service.wait(ids, waiter)]
                assert answers == questions
                asked += len(questions)
            sizes[mark] = measure(pids)
            show(mark, sizes[mark], time.monotonic() - began)
    assert processes(home) == pids, "a process was replaced meanwhile"
    service.bridge.close()
    return compare(sizes[first], sizes[last])


def marks(first: int, last: int) -> list[int]:
    """Return after how many questions to measure: each ten times the one before."""
    found = [first]
    while found[-1] * 10 < last:
        found.append(found[-1] * 10)
    return [*found, last]


def processes(home: Home) -> dict[str, int]:
    """Return the pid of every long-lived process."""
    beats = {beat.name: beat.pid for beat in heartbeat.read_all(home.beats)}
    return {"supervisord": int((home.run / "supervisord.pid").read_text()), **beats}


def measure(pids: dict[str, int]) -> dict[str, Size]:
    """Return the least that each process held over a quiet while."""
    found: dict[str, list[Size]] = {name: [] for name in pids}
    for _ in range(READINGS):
        time.sleep(QUIET_S / READINGS)
        for name, pid in pids.items():
            process = psutil.Process(pid)
            found[name].append(Size(process.memory_info().rss, process.num_fds()))
    return {
        name: Size(min(each.rss for each in sizes), min(each.fds for each in sizes))
        for name, sizes in found.items()
    }


def show(mark: int, sizes: dict[str, Size], seconds: float) -> None:
    text = "  ".join(f"{name} {size.rss / 1e6:.2f} MB {size.fds}" for name, size in sizes.items())
    print(f"{mark:>8,} questions, {seconds:5.0f} s: {text}", flush=True)


def compare(before: dict[str, Size], after: dict[str, Size]) -> int:
    """Print what grew, and return 1 if it is more than promised."""
    held = True
    for name, then in before.items():
        now = after[name]
        growth = now.rss / then.rss - 1
        good = growth <= ALLOWED and now.fds == then.fds
        held &= good
        print(
            f"{name:12} {then.rss / 1e6:7.2f} to {now.rss / 1e6:7.2f} MB  {growth:+7.2%}"
            f"  descriptors {then.fds} to {now.fds}  {'ok' if good else 'TOO MUCH'}"
        )
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
