"""Errors that are of one row, and say nothing of the others."""

from autopoll.errors import RowRefused

# What is raised for one row that cannot be read or written.
OF_ONE_ROW = (RowRefused, ValueError, TypeError, OverflowError, RecursionError)


def log_error(words: str) -> None:
    """Log an error that is of one row, and not raised."""
    import logging  # only now, because an `ask`, which settles nothing, does without

    logging.getLogger(__name__).error("%s", words)
