"""Statements of the shared parts in the words of the driver, every table by its whole name.

A pooler may drop the search path of a session.
"""

import re
from functools import cache

from autopoll.bridge.sql.tables import TABLES

SCHEMA = "autopoll"
_TABLE = re.compile(rf"\b(FROM|JOIN|INTO|UPDATE)(\s+)({'|'.join(TABLES)})\b")
_NAMED = re.compile(r"(?<![:\w]):([a-z_]+[0-9]*)")


@cache
def translated(sql: str) -> str:
    """Return a statement with parameters as `?` or `:name` as the driver takes it."""
    sql = _TABLE.sub(rf"\1\2{SCHEMA}.\3", sql.replace("%", "%%"))
    return _NAMED.sub(r"%(\1)s", sql).replace("?", "%s")
