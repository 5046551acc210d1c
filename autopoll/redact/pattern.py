"""Patterns that are compiled when they are first needed."""

import re
from functools import cache


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a compiled pattern: all of them at once would cost each command 20 ms."""
    return re.compile(pattern)
