"""autopoll on PostgreSQL beside other queues on the same server, measured in one run.

    python -m bench.postgres [--rounds 2] [--scale 1.0] [--out build/bench]

Each round has a server of its own, in a temporary folder on the disk of TMPDIR, else of /var/tmp.
On it each entrant has its turn. Then claims are measured in large stores. Writes postgres.json and
postgres.md; exit 1 when autopoll was not measured.
"""

import argparse
import sys
from pathlib import Path

from bench import command
from bench.cost.results import folder as results_folder
from bench.cost.results import put
from bench.postgres import table
from bench.postgres.entrants import ENTRANTS, OURS
from bench.postgres.page import FIGURES
from bench.postgres.run import ROUNDS, run

PAGE = "postgres.md"


def main() -> int:
    given = parser().parse_args()
    with results_folder(given.out) as out:
        found = run(ENTRANTS, given.rounds, given.scale, _say)
        put(out / FIGURES, found.encode())
        put(out / PAGE, table.page(found).encode())
        _say(f"wrote {out / FIGURES} and {out / PAGE}")
    print(table.tables(found))
    return 0 if OURS in {figure.name for figure in found.figures} else 1


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench.postgres", description=(__doc__ or "").splitlines()[0]
    )
    made.add_argument("--rounds", type=command.number(int, 1, 100), default=ROUNDS)
    made.add_argument("--scale", type=command.scale, default=1.0, help="a share of the full counts")
    made.add_argument("--out", type=Path, default=Path("build", "bench"))
    return made


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
