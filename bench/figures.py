"""How long each fault of the self-test takes to be noticed, and a question to be answered.

    python -m bench.figures [--times 20]

Each time is a run of its own in a new home, because who was continued or replaced a moment ago is
treated differently. Prints median and worst in milliseconds; exit 1 when a question was lost or
answered twice, or a fault was not noticed. A run takes most of a minute.
"""

import argparse
import statistics
from collections import defaultdict

from autopoll.ops.selftest.fault_cases import run_all
from autopoll.ops.selftest.fault_run import FaultOutcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=20)
    given = parser.parse_args()
    found: dict[str, list[FaultOutcome]] = defaultdict(list)
    for number in range(given.times):
        outcomes = run_all(report=lambda _: None, show=lambda _: None)
        for outcome in outcomes:
            found[outcome.fault].append(outcome)
        bad = [outcome for outcome in outcomes if not outcome.is_good]
        print(f"run {number + 1} of {given.times}", *bad, flush=True)
    print(f"\n{'':28}  noticed after      answered after  (ms, of {given.times})")
    print(f"{'fault':28} {'median':>7} {'worst':>7}   {'median':>7} {'worst':>7}")
    for fault, outcomes in found.items():
        noticed = shown([each.noticed_ms for each in outcomes])
        answered = shown([each.answered_ms for each in outcomes])
        print(f"{fault:28} {noticed}   {answered}")
    return 0 if all(each.is_good for outcomes in found.values() for each in outcomes) else 1


def shown(values: list[int | None]) -> str:
    """Return median and worst, where never is the worst of all."""
    known = [value for value in values if value is not None]
    worst = f"{max(known):7}" if len(known) == len(values) else "  never"
    return f"{statistics.median(known):7.0f} {worst}" if known else "  never   never"


if __name__ == "__main__":
    raise SystemExit(main())
