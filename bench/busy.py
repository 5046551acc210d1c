"""A home under full load for as long as wanted: whoever is killed then is killed by mistake.

    python -m bench.busy [--minutes 30]

As many instances as there are cores compute without a pause, in their main loop, for longer than
one that stands still is tolerated; another shard is flooded meanwhile. Every incident and every
restart counts as a false kill; promised are none. Exit 1 when there is one.
"""

import argparse
import os
import time
from collections import deque
from contextlib import closing

import psutil

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.process import heartbeat, incident_log
from bench import command

FLOOD = 100
CORES = os.cpu_count() or 1
CONFIG = f"""
[access]
rate_per_second = 1000000.0
rate_burst = 1000000
[shards.main]
backend = "echo"
options.concurrency = 8
[shards.toil]
backend = "faulty"
instances = {CORES}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    with scratch_home(CONFIG, {"faulty": "autopoll.ops.selftest.faulty_backend:Faulty"}) as scratch:
        scratch.up(lambda _: None)
        asked = load(scratch, given.minutes * 60)
        false = [
            f"{each.process} {each.verdict}" for each in incident_log.read(scratch.home.incidents)
        ]
        beats = heartbeat.read_all(scratch.home.beats)
        restarts = sum(beat.starts - 1 for beat in beats)
    print(f"{asked:,} questions, {len(false)} incidents, {restarts} restarts", *false, sep="\n")
    return 0 if not false and not restarts else 1


def load(scratch: Scratch, seconds: float) -> int:
    """Keep everything busy for so long, and return how many questions were answered."""
    asked = 0
    toiling: deque[int] = deque()
    begun = told = time.monotonic()
    psutil.cpu_percent()
    with (
        closing(connect(scratch.home, scratch.config)) as bridge,
        PollerConnection(scratch.home) as connection,
    ):
        client = Client(scratch.home, scratch.config, bridge)
        while (now := time.monotonic()) < begun + seconds:
            while toiling and client.result(toiling[0]).status != "pending":
                toiling.popleft()
                asked += 1
            while len(toiling) < 2 * CORES:
                toiling += client.ask(["toil"], "toil").ids
            flood = client.ask(["what?"] * FLOOD, "main", connection=connection).ids
            asked += sum(1 for _ in client.wait(flood, connection))
            if now > told + 60:
                told = now
                used = psutil.cpu_percent()
                print(
                    f"{(now - begun) / 60:4.0f} min, {asked:,} questions, CPU {used:.0f} %",
                    flush=True,
                )
    return asked


if __name__ == "__main__":
    raise SystemExit(command.run(main))
