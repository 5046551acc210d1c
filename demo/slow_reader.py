"""A program for the backend `command`: reads all pages one by one, slowly, and counts a word.

It stands for a model that takes its time, so that there is a question in flight to be interrupted.
Speaks one JSON object a line; the protocol is in docs/backends.md.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

READING_S = 3.0  # for all pages together


def main() -> None:
    """Answer questions until the input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "question" in asked:  # the other kind is a cancellation, which comes too late here
            answer(asked)


def answer(asked: dict[str, Any]) -> None:
    """Say which page of the context has the last word of the question most often."""
    word = asked["question"].split()[-1].strip("?.!").lower()
    pages = [page for root in asked["context"] for page in pages_of(Path(root))]
    found: dict[str, list[int]] = {}
    for name, path in pages:
        time.sleep(READING_S / len(pages))
        say(id=asked["id"], progress=f"reading {name}")
        lines = path.read_text(encoding="utf-8").lower().splitlines()
        found[name] = [number for number, line in enumerate(lines, 1) if word in line]
    name = max(found, key=lambda name: len(found[name]))
    numbers = found[name]
    if not numbers:
        say(id=asked["id"], answer=f"No page has the word {word}.")
        return
    say(
        id=asked["id"],
        answer=f"{name}: the word {word} stands in {len(numbers)} of its lines.",
        sources=[f"{name}:{numbers[0]}-{numbers[-1]}"],
    )


def pages_of(root: Path) -> list[tuple[str, Path]]:
    """Return name and path of a page, or of the pages in a folder, in order."""
    if root.is_file():
        return [(root.name, root)]
    return [(str(path.relative_to(root.parent)), path) for path in sorted(root.rglob("*.md"))]


def say(**fields: Any) -> None:
    """Write one line to the worker."""
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
