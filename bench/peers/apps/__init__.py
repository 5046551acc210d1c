"""One module for each contender: its settings, its echo, and how it is asked.

The worker of a contender and the asker import the same module, as in any project that uses it. Each
has `asking()`, a context manager that gives a function to ask with. What is imported here is in the
memory of each contender, so it is little.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

FOLDER = "BENCH_PEERS_FOLDER"  # names the folder of the turn in the environment
REDIS_SOCKET = "redis.sock"
POSTGRESQL_FOLDER = "postgresql"
POSTGRESQL_USER = "bench"
PATIENCE_S = 60


class Ask(Protocol):
    """Asks, each question in a commit of its own or all `together`, and returns the answers."""

    def __call__(self, texts: Sequence[str], *, together: bool) -> list[str]: ...


def here() -> Path:
    """Return the folder of the turn."""
    return Path(os.environ[FOLDER])
