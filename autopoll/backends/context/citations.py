"""Citations in a model's answer: found, checked against the files, and returned as sources; pure.

The form that is asked for is `[file:first-last]`. What models make of it is read too: one line
only, several in one pair of brackets, round brackets, `L12`, a longer dash, and a name that leaves
out folders, as long as only one file can be meant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MOST = 200  # sources of one answer

_GROUP = re.compile(r"[\[(]([^\[\]()\n]{3,500})[\])]")
_PLACE = re.compile(
    r"(?:(?P<name>[^:]+(?::[^:]+)*?):)?\s*L?(?P<first>\d{1,9})(?:\s*[-\u2013\u2014]\s*L?(?P<last>\d{1,9}))?"
)


class Cited(NamedTuple):
    """What an answer cites: `file:first-last`, each once, in order; and how many were false."""

    sources: list[str]
    dropped: int


def cited(text: str, lines: Mapping[str, int]) -> Cited:
    """Return the citations of a text that hold; `lines` is the number of lines of each file.

    One that names a file that is not there, or lines that it does not have, is dropped and counted.
    """
    sources: dict[str, None] = {}
    dropped = 0
    for given, first, last in _places(text):
        name = _resolved(given, lines)
        if name is not None and 1 <= first <= last <= lines[name]:
            sources[f"{name}:{first}-{last}"] = None
        elif name is not None or _is_like_a_file(given):
            dropped += 1
    return Cited(list(sources)[:MOST], dropped)


def _places(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (name as given, first, last) of whatever has the form of a citation."""
    for group in _GROUP.finditer(text):
        name = ""
        for part in re.split(r"[,;]", group[1]):
            place = _PLACE.fullmatch(part.strip(" `"))
            if place is None:
                name = ""
                continue
            name = (place["name"] or name).strip()
            if name:
                first = int(place["first"])
                yield name, first, int(place["last"] or first)


def _resolved(given: str, lines: Mapping[str, int]) -> str | None:
    """Return the name of the file that is meant, if it is clear which."""
    given = given.removeprefix("./")
    if given in lines:
        return given
    fits = [name for name in lines if name.endswith(f"/{given}") or given.endswith(f"/{name}")]
    return fits[0] if len(fits) == 1 else None


def _is_like_a_file(name: str) -> bool:
    """Return whether it may name a file; a time of day, a slice or an address does not."""
    return ("." in name or "/" in name) and "://" not in name
