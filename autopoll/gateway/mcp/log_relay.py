"""Sends the server's log to the clients that have set a level, as the protocol's messages."""

import asyncio
import logging
from contextlib import suppress
from contextvars import ContextVar

from mcp_types import (
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
)

from autopoll.gateway import strict_json
from autopoll.gateway.authentication import Caller
from autopoll.gateway.mcp.subscriber import Subscriber
from autopoll.redact.redact import redact

LEVELS: dict[LoggingLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO + 5,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "alert": logging.CRITICAL + 5,
    "emergency": logging.CRITICAL + 10,
}
CALLER: ContextVar[str] = ContextVar("caller", default="")  # whose request is being carried out
# Of each request, for clients only: the log file would be full of them.
REQUESTS = logging.getLogger("autopoll.requests")
REQUESTS.propagate = False
_OPERATOR = Caller().scope


class LogRelay(logging.Handler):
    """Used as a context manager; records come from any thread.

    The operator sees the whole log of this process, anybody else what its own requests lead to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._subscribers: dict[Subscriber, str] = {}  # and whose client it is

    def __enter__(self) -> "LogRelay":
        for logger in (logging.getLogger("autopoll"), REQUESTS):
            logger.addHandler(self)
        self._choose()
        return self

    def __exit__(self, *_: object) -> None:
        for logger in (logging.getLogger("autopoll"), REQUESTS):
            logger.removeHandler(self)

    def set_level(self, subscriber: Subscriber, caller: str, level: int) -> None:
        """Send a caller's client the messages of a level and above from now on."""
        subscriber.level = level
        self._subscribers[subscriber] = caller
        self._choose()

    def discard(self, subscriber: Subscriber) -> None:
        """Send a subscriber no more messages; tolerated twice."""
        self._subscribers.pop(subscriber, None)
        self._choose()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record over to those that may see it."""
        seers = (_OPERATOR, CALLER.get())
        for each, caller in tuple(self._subscribers.items()):
            if caller in seers and each.level is not None and record.levelno >= each.level:
                with suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(each.logged, _message(record))

    def _choose(self) -> None:
        """Have records of requests made only while somebody is sent them."""
        REQUESTS.setLevel(logging.DEBUG if self._subscribers else logging.CRITICAL + 1)


def _message(record: logging.LogRecord) -> LoggingMessageNotification:
    level = max((value, name) for name, value in LEVELS.items() if value <= record.levelno)[1]
    text = strict_json.text(redact(record.getMessage()))
    return LoggingMessageNotification(
        params=LoggingMessageNotificationParams(level=level, logger=record.name, data=text)
    )
