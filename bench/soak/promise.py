"""The promise of the watchdog: what a process holds after 100,000 questions and held after 1,000.

Resident memory within 3 %, and as many descriptors. Measured when nothing has been in flight
for a while, as the least of several readings: what the allocator is about to hand back is no leak.
"""

import time
from collections.abc import Callable

from bench.soak.sample import Held

FIRST, LAST = 1_000, 100_000  # questions
ALLOWED = 0.03
QUIET_S, READINGS = 10.0, 20

Look = Callable[[], dict[str, Held]]


def quiet(look: Look) -> dict[str, Held]:
    """Return the least that each process held over a quiet while."""
    found: dict[str, list[Held]] = {}
    for _ in range(READINGS):
        time.sleep(QUIET_S / READINGS)
        for name, held in look().items():
            found.setdefault(name, []).append(held)
    return {
        name: Held(each[0].pid, min(one.rss for one in each), min(one.fds for one in each))
        for name, each in found.items()
    }


def compare(before: dict[str, Held], after: dict[str, Held]) -> tuple[bool, str]:
    """Tell whether the promise holds, with a line for each process."""
    kept, lines = before.keys() == after.keys(), []
    for name in before.keys() & after.keys():
        then, now = before[name], after[name]
        growth = now.rss / then.rss - 1
        good = now.rss <= (1 + ALLOWED) * then.rss and now.fds == then.fds and now.pid == then.pid
        kept &= good
        lines.append(
            f"{name:12} {then.rss / 1e6:7.2f} to {now.rss / 1e6:7.2f} MB  {growth:+7.2%}"
            f"  descriptors {then.fds} to {now.fds}  {'ok' if good else 'TOO MUCH'}"
        )
    return kept, "\n".join(sorted(lines))
