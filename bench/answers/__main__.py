"""How often the right passage is found, by autopoll and by what else one would take.

    python -m bench.answers [--only NAMES] [--groups NAMES] [--cache FOLDER] [--out build/bench]

Documentation is got by pip and apt-get, once. Writes answers.json and answers.md.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from autopoll.errors import UsageError
from bench import command
from bench.answers import table
from bench.answers.contenders import CONTENDERS
from bench.answers.corpora import GROUPS
from bench.answers.page import FIGURES
from bench.answers.run import run
from bench.cost.results import folder as results_folder
from bench.cost.results import put

PAGE = "answers.md"


def main() -> int:
    given = parser().parse_args()
    groups = [group for group in GROUPS if group.name in given.groups]
    cache = _made(given.cache)
    with results_folder(given.out) as out:
        found = run(given.only, groups, cache, _say)
        tables = table.tables(found)
        put(out / FIGURES, msgspec.json.format(msgspec.json.encode(found)) + b"\n")
        put(out / PAGE, f"# Answers\n\n{tables}\n".encode())
    print(tables)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench.answers", description=(__doc__ or "").splitlines()[0]
    )
    names, groups = list(CONTENDERS), [group.name for group in GROUPS]
    made.add_argument("--only", type=_some(names), default=names, metavar="NAMES")
    made.add_argument("--groups", type=_some(groups), default=groups, metavar="NAMES")
    made.add_argument("--cache", type=Path, default=Path("build", "answers-docs"))
    made.add_argument("--out", type=Path, default=Path("build", "bench"))
    return made


def _some(names: list[str]) -> Callable[[str], list[str]]:
    """Return what reads names with commas between, in the order of `names`."""

    def read(text: str) -> list[str]:
        named = {name.strip() for name in text.split(",")}
        if unknown := named - set(names):
            known = ", ".join(names)
            raise argparse.ArgumentTypeError(
                f"there is no {', '.join(sorted(unknown))}; there are: {known}"
            )
        return [name for name in names if name in named]

    return read


def _made(cache: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"documentation cannot be kept in {cache}: {error.strerror}",
            "Choose another folder with --cache.",
        ) from error
    return cache


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(command.run(main))
