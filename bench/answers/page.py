"""The tables in docs/backends/extract.md, made from the figures that were kept.

python -m bench.answers.page
"""

from pathlib import Path

import msgspec

from bench import markers
from bench.answers.run import AnswersReport
from bench.answers.table import tables

ROOT = Path(__file__).parents[2]
FIGURES = "answers.json"
MARK = "answers"


def main() -> None:
    """Write the tables anew."""
    markers.fill(ROOT / "docs" / "backends" / "extract.md", MARK, tables(kept()))


def kept() -> AnswersReport:
    """Return the figures that were kept."""
    text = (ROOT / "bench" / "results" / FIGURES).read_bytes()
    return msgspec.json.decode(text, type=AnswersReport)


if __name__ == "__main__":
    main()
