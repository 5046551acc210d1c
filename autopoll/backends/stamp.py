"""What tells that a file is another than it was."""

import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """What changes when a file is written, replaced, or made readable."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "Stamp":
        """Return the stamp of a file that was stat'ed."""
        return cls(facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino)
