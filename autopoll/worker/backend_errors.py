"""What is made of the errors of a backend: a failure of the request, and text."""

import logging

from autopoll.backends.contract import Permanent, Retriable, Unavailable
from autopoll.errors import AutopollError
from autopoll.request import Failure
from autopoll.text import valid
from fifo.exceptions import FifoError

LONGEST_ERROR = 16 * 1024  # characters of an error's text that are passed on

log = logging.getLogger(__name__)


def failure_of(error: Retriable | Permanent | Unavailable) -> Failure:
    """Return the failure that the poller is sent for an error of the contract."""
    match error:
        case Retriable():
            return Failure(
                kind="retriable",
                message=text_of(error),
                retry_after_ms=error.retry_after_ms,
                usage=error.usage,
            )
        case Unavailable():
            return Failure(
                kind="unavailable",
                message=text_of(error),
                retry_after_ms=error.resume_after_ms,
                cause=error.kind,
                usage=error.usage,
            )
        case Permanent():
            return Failure(kind="permanent", message=text_of(error), usage=error.usage)


def named(error: BaseException) -> str:
    """Return the text of an error, led by its type where it is none of ours."""
    ours = isinstance(error, AutopollError | FifoError)
    return text_of(error) if ours else f"{type(error).__name__}: {text_of(error)}"


def text_of(error: BaseException) -> str:
    """Return the text of an error, of which foreign code may have made anything."""
    try:
        return valid(str(error))[:LONGEST_ERROR]
    except (Exception, SystemExit) as worse:  # its own __str__
        log.warning("the text of an error cannot be read", exc_info=worse)
        return f"it cannot say what it is: {type(worse).__name__}"
