"""The tables in docs/postgres.md, and what docs/scaling.md rests on, made from the figures kept.

python -m bench.postgres.page
"""

from pathlib import Path

from bench import markers
from bench.cost import report
from bench.postgres.table import scaling, tables

ROOT = Path(__file__).parents[2]
FIGURES = "postgres.json"
MARK, SCALING = "postgres", "scaling"


def main() -> None:
    """Write them again."""
    kept = report.read(ROOT / "bench" / "results" / FIGURES)
    markers.fill(ROOT / "docs" / "postgres.md", MARK, tables(kept))
    markers.fill(ROOT / "docs" / "scaling.md", SCALING, scaling(kept))


if __name__ == "__main__":
    main()
