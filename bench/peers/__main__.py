"""autopoll beside other queues, measured in one run.

    python -m bench.peers [--only NAMES] [--rounds 3] [--scale 1.0] [--out build/bench]

Each contender is started, measured and ended in its turn, in a temporary folder on the disk of
TMPDIR, else of /var/tmp. One that cannot take part is left out, with the reason. Writes peers.json,
peers.md and peers.svg; exit 1 when autopoll or the floor was not measured.
"""

import argparse
import sys
from pathlib import Path

from bench import command
from bench.cost import plot
from bench.cost.report import Report
from bench.cost.results import folder as results_folder
from bench.cost.results import put
from bench.peers import chart, table
from bench.peers.contenders import CONTENDERS, FLOOR, OURS, Contender
from bench.peers.page import FIGURES
from bench.peers.run import ROUNDS, run

PAGE = "peers.md"


def main() -> int:
    given = parser().parse_args()
    with results_folder(given.out) as out:
        found = run(given.only, given.rounds, given.scale, _say)
        _write(found, out)
    print(table.tables(found))
    return 0 if {FLOOR, OURS} <= {figure.name for figure in found.figures} else 1


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench.peers", description=(__doc__ or "").splitlines()[0]
    )
    names = ", ".join(each.name for each in CONTENDERS)
    made.add_argument(
        "--only", type=_contenders, default=CONTENDERS, metavar="NAMES", help=f"of: {names}"
    )
    made.add_argument("--rounds", type=command.number(int, 1, 100), default=ROUNDS)
    made.add_argument("--scale", type=command.scale, default=1.0, help="a share of the full counts")
    made.add_argument("--out", type=Path, default=Path("build", "bench"))
    return made


def _contenders(text: str) -> list[Contender]:
    """Return the contenders named, in the order of the table."""
    named = {name.strip() for name in text.split(",")}
    if unknown := named - {each.name for each in CONTENDERS}:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
    return [each for each in CONTENDERS if each.name in named]


def _write(found: Report, out: Path) -> None:
    """Write the files; nothing when nothing was measured, so that an earlier run stays."""
    if not found.figures:
        return
    drawn = {chart.NAME: chart.chart(found.figures)} if plot.is_possible() else {}
    files = {FIGURES: found.encode(), PAGE: table.page(found, list(drawn)).encode(), **drawn}
    for name, content in files.items():
        put(out / name, content)
        _say(f"wrote {out / name}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
