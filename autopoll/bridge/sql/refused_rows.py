"""Errors that are of one row, and say nothing of the others."""

from collections.abc import Callable
from typing import TypeVar

from autopoll.bridge.sql.database import Database
from autopoll.errors import RowRefused

_Result = TypeVar("_Result")

# What is raised for one row that cannot be read or written.
OF_ONE_ROW = (RowRefused, ValueError, TypeError, OverflowError, RecursionError)


def log_error(words: str) -> None:
    """Log an error that is of one row, and not raised."""
    import logging  # only now, because an `ask`, which settles nothing, does without

    logging.getLogger(__name__).error("%s", words)


def in_savepoint(db: Database, what: str, use: Callable[[], _Result]) -> _Result | RowRefused:
    """Return what `use` returns, or, where the store refused a row and it left no trace, why."""
    db.rows("SAVEPOINT one")
    refused: RowRefused | None = None
    try:
        result = use()
    except OF_ONE_ROW as error:
        db.rows("ROLLBACK TO one")
        log_error(f"cannot {what}: {error}")
        refused = error if isinstance(error, RowRefused) else RowRefused(str(error))
    db.rows("RELEASE one")
    return refused or result


def together_or_each(commit: Callable[[bool], _Result]) -> _Result:
    """Commit all together or, when the store refuses something of it, each on its own merits."""
    try:
        return commit(True)
    except OF_ONE_ROW as error:
        log_error(f"committing one by one: {error}")
        return commit(False)
