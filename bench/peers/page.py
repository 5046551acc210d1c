"""The table in docs/performance.md, made from the figures that were kept.

python -m bench.peers.page
"""

from pathlib import Path

from bench import markers
from bench.cost import report
from bench.peers.table import tables

ROOT = Path(__file__).parents[2]
FIGURES = "peers.json"
MARK = "peers"


def main() -> None:
    """Write the table anew."""
    kept = report.read(ROOT / "bench" / "results" / FIGURES)
    markers.fill(ROOT / "docs" / "performance.md", MARK, tables(kept))


if __name__ == "__main__":
    main()
