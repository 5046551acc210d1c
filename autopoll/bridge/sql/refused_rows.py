"""Errors that are of one row, and say nothing of the others."""

from collections.abc import Callable
from typing import TypeVar

from autopoll.errors import RowRefused

_Result = TypeVar("_Result")

# What is raised for one row that cannot be read or written.
OF_ONE_ROW = (RowRefused, ValueError, TypeError, OverflowError, RecursionError)


def log_error(words: str) -> None:
    """Log an error that is of one row, and not raised."""
    import logging  # only now, because an `ask`, which settles nothing, does without

    logging.getLogger(__name__).error("%s", words)


def together_or_each(commit: Callable[[bool], _Result]) -> _Result:
    """Commit all together or, when the store refuses something of it, each on its own merits."""
    try:
        return commit(True)
    except OF_ONE_ROW as error:
        log_error(f"committing one by one: {error}")
        return commit(False)
