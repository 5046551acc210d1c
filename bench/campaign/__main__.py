"""The fault campaign: everything that can be struck is struck at random while five askers ask on.

    python -m bench.campaign [--seconds 600] [--seed N] [--out recovery.svg]

Promised: as many answers as questions, none twice, in the order of their conversation, no process
and no descriptor left over, and everything at work again within a minute of the storm's end without
a hand being moved (only supervisord itself is started again, as its own supervisor would). Exit 1
when any of it does not hold. Prints how long it took until everybody was answered again.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Message
from autopoll.ops.down import down
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.ops.status import status
from autopoll.process import heartbeat
from bench import command
from bench.campaign.recovery import Question, recoveries, svg_plot, table, text_plot
from bench.campaign.storm import CONTROL, NoRoom, SmallDisk, Storm
from bench.campaign.verification import ASKER, text_of, verify

HERE = Path(__file__).parent
CONFIG = """
[delivery]
max_attempts = 50
[access]
rate_per_second = 1000.0
rate_burst = 10000
[shards.main]
backend = "echo"
instances = 2
options.delay = "20ms"
[shards.tool]
backend = "command"
instances = 2
request_timeout = "5s"
options.command = ["sh", "-c", {command}]
"""
ASKERS = {
    "ada": ("conversation", "main"),
    "bob": ("conversation", "tool"),
    "eve": ("conversation", "tool"),
    "joe": ("service", "tool"),
    "kim": ("command", "main"),  # who cannot tell whether a question that failed was stored
}
PAUSE_S = (0.2, 2.0)  # between two faults
CALM_S = 90.0
STEADY_S = 5.0
EVERYTHING = 10_000_000
TOOL = f"cat | {shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'answerer.py'))}"
DISK = "256m"
UNSHARED = ["unshare", "--mount", "--map-root-user"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it storms")
    parser.add_argument("--seed", type=int, help="repeats the faults of an earlier campaign")
    parser.add_argument("--out", type=Path, help="where to write the plot as SVG")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside and may_mount():
        # In a name space of its own the mount ends with us, however we end.
        os.execvp(
            UNSHARED[0],
            [*UNSHARED, sys.executable, "-m", "bench.campaign", *sys.argv[1:], "--inside"],
        )
    seed = random.randrange(2**32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory(prefix="autopoll-campaign-") as name:
        if given.inside:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", name], check=True
            )
            tempfile.tempdir = name
        try:
            with scratch_home(CONFIG.format(command=json.dumps(TOOL)), {}) as scratch:
                disk = SmallDisk(scratch.home.root) if given.inside else NoRoom(scratch)
                return campaign(Storm(scratch, seed, disk), seed, given.seconds, given.out)
        finally:
            if given.inside:
                subprocess.run(["umount", name], check=True)


def may_mount() -> bool:
    """Tell whether we may have a small disk of our own: as root, or as root of a name space."""
    if shutil.which(UNSHARED[0]) is None:
        return False
    tried = subprocess.run(
        [*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    )
    return tried.returncode == 0


def campaign(storm: Storm, seed: int, seconds: float, out: Path | None) -> int:
    """Storm for so long, wait for the calm after it, and tell whether all is as promised."""
    scratch = storm.scratch
    print(f"seed {seed}, {seconds:.0f} s, full disk by {storm.disk.what}", flush=True)
    scratch.up(lambda _: None)
    before = steady_tree(scratch)
    with closing(connect(scratch.home, scratch.config)) as bridge, asking(scratch) as askers:
        until(lambda: len(questions(bridge)) > len(ASKERS), "the first questions")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            storm.strike()
            time.sleep(storm.chance.uniform(*PAUSE_S))
        storm.calm()
        began = time.monotonic()
        works_again = until(
            lambda: status(scratch.home, scratch.config).ready, "everything to be ready"
        )
        calm_s = time.monotonic() - began
        (scratch.home.root / "enough").touch()
        stored = {name: int(asker.communicate()[0] or -1) for name, asker in askers.items()}
        until(lambda: not unanswered(bridge), "the last answers")
        good = True
        for each in verify(bridge.messages.find(limit=EVERYTHING), stored, losers={"kim"}):
            good &= promise(each.kept, each.text, *each.why)
        good &= promise(works_again and calm_s < 60, f"ready {calm_s:.1f} s after the storm")
        good &= nothing_left(before, steady_tree(scratch))
        tell(storm, bridge, out)
    good &= goes_down(scratch)
    return 0 if good else 1


@contextmanager
def asking(scratch: Scratch) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Have a process for each asker, and none that outlives us."""
    askers = {
        name: subprocess.Popen(
            [sys.executable, HERE / "asker.py", scratch.home.root, name, *way],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # refusals, which are part of it
            text=True,
        )
        for name, way in ASKERS.items()
    }
    try:
        yield askers
    finally:
        for asker in askers.values():
            asker.kill()
            asker.wait()


# --- what is looked at


def tree(scratch: Scratch) -> dict[str, int]:
    """Return the descriptors of each process that beats, and how many others there are."""
    beats = {
        beat.pid: beat.name
        for beat in heartbeat.read_all(scratch.home.beats)
        if heartbeat.is_alive(beat)
    }
    found = {each.pid for each in scratch.processes()}
    sizes = {name: psutil.Process(pid).num_fds() for pid, name in beats.items()}
    return {**sizes, "others": len(found - beats.keys()), "missing": len(beats.keys() - found)}


def steady_tree(scratch: Scratch) -> dict[str, int]:
    """Return the tree once it has not changed for a while: the watchdog takes note of newcomers."""
    found, since = tree(scratch), time.monotonic()
    end = since + CALM_S
    while time.monotonic() < min(since + STEADY_S, end):
        time.sleep(0.2)
        if (now := tree(scratch)) != found:
            found, since = now, time.monotonic()
    return found


def questions(bridge: Bridge) -> list[Message]:
    """Return what the askers have asked."""
    return [each for each in bridge.messages.find(limit=EVERYTHING) if each.sender == ASKER]


def unanswered(bridge: Bridge) -> int:
    """Return how many questions wait, whether the poller has seen them or not."""
    counts = bridge.overview.counts()
    return len(questions(bridge)) - counts["done"] - counts["dead"]


def nothing_left(before: dict[str, int], after: dict[str, int]) -> bool:
    """Compare the trees; a descriptor less is a log that a full disk has closed for now."""
    same = before.keys() == after.keys()
    return promise(
        same and all(after[name] <= before[name] for name in before),
        f"no process and no descriptor more than before: {after}",
        f"before: {before}",
    )


def goes_down(scratch: Scratch) -> bool:
    """Take the home down as an operator does, and see that nothing is left."""
    down(scratch.home, scratch.config, lambda _: None)
    left = [*(each.command for each in scratch.processes())]
    left += [str(path) for path in scratch.home.run.iterdir()]
    return promise(not left, "down leaves no process and nothing in var/run", *left)


def tell(storm: Storm, bridge: Bridge, out: Path | None) -> None:
    """Print how long it took until everybody was answered again, and draw it."""
    answered = [
        Question(
            asker=text_of(each).split()[0],
            asked=round(1000 * datetime.fromisoformat(f"{each.timestamp}Z").timestamp()),
            settled=bridge.messages.query_state(each.id).settled_at or 0,
        )
        for each in questions(bridge)
    ]
    times = recoveries(storm.faults, answered)
    struck = [each for kind, values in times.items() if kind != CONTROL for each in values]
    print(f"\nfrom a fault until every asker had a new answer, {len(struck)} faults:\n")
    print(f"{table(times)}\n\n{text_plot(struck)}")
    if out:
        out.write_text(svg_plot(struck, f"Recovery after {len(struck)} faults"), encoding="utf-8")


# --- the tools


def until(condition: Callable[[], bool], what: str) -> bool:
    """Wait until it holds; say and tell when it does not in time."""
    end = time.monotonic() + CALM_S
    while not condition():
        if time.monotonic() > end:
            print(f"waited {CALM_S:.0f} s for {what}")
            return False
        time.sleep(0.2)
    return True


def promise(kept: bool, text: str, *why: object) -> bool:
    """Print whether something holds, and why not."""
    print(f"{'ok  ' if kept else 'FAIL'}  {text}", flush=True)
    for each in () if kept else why:
        print(f"      {each}")
    return kept


if __name__ == "__main__":
    raise SystemExit(command.run(main))
