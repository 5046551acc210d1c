"""Remarks on single context files: passed over, or read in an unusual way."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import msgspec

from autopoll.home import files

MOST = 50  # files that are named; the rest are only counted

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """One file or folder of the context, by the name it is cited by, and what is the matter.

    `skipped`: nothing of it is known. `failed`: it could not be read, though it might be text.
    """

    file: str
    reason: str
    skipped: bool = True
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.file} {self.reason}"


class Remarks(msgspec.Struct, frozen=True, kw_only=True):
    """The remarks on a shard's files, gravest first; `total` also counts those not listed."""

    total: int = 0
    failed: int = 0
    files: list[Remark] = []

    @classmethod
    def of(cls, remarks: Iterable[Remark]) -> "Remarks":
        """Return them in order, as many as are listed."""
        order = sorted(remarks, key=lambda each: (not each.failed, each.skipped, each.file))
        failed = sum(each.failed for each in order)
        return cls(total=len(order), failed=failed, files=order[:MOST])

    def lines(self, most: int) -> list[str]:
        """Return them as lines of text, at most so many and one for the rest."""
        lines = [str(each) for each in self.files[:most]]
        more = self.total - len(lines)
        return [*lines, f"and {more:,} more"] if more else lines


NOTHING = Remarks()
_read = msgspec.json.Decoder(Remarks).decode


def keep(path: Path, remarks: Remarks) -> None:
    """Keep remarks in a private file for commands that show them; without remarks there is none.

    Raises OSError.
    """
    if remarks.total:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        files.put(path, msgspec.json.encode(remarks))
    else:
        path.unlink(missing_ok=True)


def kept(path: Path) -> Remarks:
    """Return the remarks that are kept in a file; none when there is none that can be read."""
    try:
        return _read(files.get(path) or b"{}")
    except msgspec.MsgspecError:  # of another version
        return NOTHING


def printable(name: str) -> str:
    r"""Return a file's name as valid text on one line; what cannot be shown is `\x` and its bytes.

    `original` is the way back.
    """
    if name.isascii() and name.isprintable():
        return name
    return "".join(char if _is_shown(char) else _escaped(char) for char in name)


def original(shown: str) -> str:
    """Return the name that was made printable; a name without escapes as it is."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), shown.encode()))


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"  # blanks of other widths


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
