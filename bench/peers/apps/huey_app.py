"""huey on SQLite. Its own wait looks every 50 ms at first, so the answer is looked for here."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from huey import SqliteHuey
from huey.api import Result

from bench.peers.apps import PATIENCE_S, Ask, here

POLL_S = 0.001
huey = SqliteHuey(filename=str(here() / "huey.db"), fsync=True)


@huey.task()
def echo(text: str) -> str:
    return text


@contextmanager
def asking() -> Iterator[Ask]:
    yield ask


def ask(texts: Sequence[str], *, together: bool) -> list[str]:
    """Ask; it has no way to put several questions into one commit."""
    return [_answer(result) for result in [echo(text) for text in texts]]


def _answer(result: Result) -> str:
    until = time.monotonic() + PATIENCE_S
    while (answer := result.get(preserve=True)) is None:
        if time.monotonic() > until:
            raise TimeoutError(f"no answer within {PATIENCE_S} s")
        time.sleep(POLL_S)
    return str(answer)
