"""Sizes of memory."""

import re
from typing import Any

from autopoll.errors import UsageError

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([KMG]i?B)"


class ByteSize(int):
    """A number of bytes, written as `512MB`, `1.5GB` or `2GiB`."""

    @classmethod
    def parse(cls, value: Any) -> "ByteSize":
        """Read a size; raise UsageError when it is not one, or zero."""
        match = re.fullmatch(_SIZE, value.strip(), re.ASCII) if isinstance(value, str) else None
        size = round(float(match[1]) * _UNITS[match[2]]) if match else 0
        if size <= 0:
            raise UsageError(f"{value!r} is not a size", "Write it as 512MB, 1.5GB or 2GiB.")
        return cls(size)


def in_words(count: int) -> str:
    """Return a number of bytes in the largest unit that fits, for people."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{count} bytes"
