"""What is kept of one client between its requests: what it is to be notified of."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    LoggingMessageNotification,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
)

from autopoll.bridge.records import Message
from autopoll.errors import AutopollError, BridgeError, NotFound
from autopoll.gateway.mcp import resources
from autopoll.gateway.mcp.stream_cursor import MOST, MOST_BYTES, StreamCursor
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch
from autopoll.gateway.usecases import CallerAccess, UseCases

Notification = ResourceUpdatedNotification | LoggingMessageNotification

LOGGED = 100  # messages of the log that wait for a slow client, the newest
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Subscriber:
    """The transcripts that a client is subscribed to, its log level, and what waits for it.

    However slow the client is, this stays small: a changed transcript waits once, and of the log
    only the newest messages do.
    """

    def __init__(self, watch: TranscriptWatch) -> None:
        self.level: int | None = None  # of log messages, as `logging` counts
        self._watch = watch
        self._conversations: dict[str, None] = {}
        self._changed: dict[str, int] = {}  # the first message that the client does not know of
        self._logged: deque[LoggingMessageNotification] = deque(maxlen=LOGGED)
        self._news = asyncio.Event()
        self._reading: object | None = None
        self._ended = False

    async def subscribe(self, conversation: str) -> None:
        """Notify the client from now on; raise MCPError when it is subscribed to too many."""
        if conversation in self._conversations:
            return
        size = sum(len(each.encode()) for each in (conversation, *self._conversations))
        if len(self._conversations) >= MOST or size > MOST_BYTES:
            most = f"{len(self._conversations)} transcripts, and there is no room for more"
            raise MCPError(INVALID_REQUEST, f"this client is subscribed to {most}")
        self._conversations[conversation] = None
        try:
            await self._watch.follow(conversation, self)
        except AutopollError:
            self.unsubscribe(conversation)
            raise
        self._news.set()

    def unsubscribe(self, conversation: str) -> None:
        """Notify the client no more; tolerated when it was not subscribed."""
        self._conversations.pop(conversation, None)
        self._changed.pop(conversation, None)
        self._watch.unfollow(conversation, self)
        self._news.set()

    async def resume(self, cursor: StreamCursor, access: CallerAccess) -> None:
        """Go on where a stream broke, maybe one of a process before this one."""
        if not self._conversations:
            for each in await access.call(lambda use: _seen(use, cursor.conversations)):
                await self.subscribe(each)
        mine = tuple(self._conversations)
        for message in await access.call(lambda use: _first_new(use, mine, cursor.known)):
            self.changed(message.conversation, message.id)

    def changed(self, conversation: str, message_id: int) -> None:
        """Note that a transcript has a new message."""
        self._changed.setdefault(conversation, message_id)
        self._news.set()

    def logged(self, message: LoggingMessageNotification) -> None:
        """Note a message of the log."""
        self._logged.append(message)
        self._news.set()

    @property
    def is_read(self) -> bool:
        """Whether somebody takes its notifications."""
        return self._reading is not None

    def cursor(self) -> StreamCursor:
        """Return what the client knows once it has received all that was yielded so far."""
        known = min(self._changed.values(), default=self._watch.newest + 1) - 1
        return StreamCursor(known, tuple(self._conversations), self.level)

    async def notifications(
        self, access: CallerAccess
    ) -> AsyncGenerator[Notification | None, None]:
        """Yield what the client is to be sent; None when only the cursor has changed.

        Each transcript is proven to be the caller's as it is yielded; AccessDenied when the token
        opens nothing any more. Ends with `close`, and when it is called once more.
        """
        self._reading = mine = object()
        self._news.set()  # which ends the one before
        try:
            while True:
                await self._news.wait()
                if self._reading is not mine or self._ended:
                    return
                self._news.clear()
                yield None
                while self._logged:
                    yield self._logged.popleft()
                for conversation in tuple(self._changed):
                    await self._prove(access, conversation)
                    if self._reading is not mine:
                        return
                    if self._changed.pop(conversation, None) is not None:
                        yield _updated(conversation)
        finally:
            if self._reading is mine:
                self._reading = None

    async def _prove(self, access: CallerAccess, conversation: str) -> None:
        """Return once a transcript is known to be the caller's; raise AccessDenied, NotFound."""
        while True:
            try:
                await access.call(lambda use: use.visible(conversation))
                return
            except BridgeError as error:  # it may pass
                log.warning("cannot notify of a new message: %s", error)
                await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Unsubscribe from all, and end the notifications; tolerated twice."""
        self._ended = True
        for conversation in tuple(self._conversations):
            self.unsubscribe(conversation)
        self._news.set()


def _seen(use: UseCases, conversations: Iterable[str]) -> list[str]:
    """Return the conversations that are there for the caller; no other is refused to anybody."""
    found = []
    for each in conversations:
        with suppress(NotFound):
            found.append(use.conversation(each).id)
    return found


def _first_new(use: UseCases, conversations: Iterable[str], known: int) -> list[Message]:
    """Return the first message beyond an id of each conversation that has one."""
    return [
        each
        for conversation in conversations
        for each in use.messages(conversation, after=max(known, 0), limit=1)
    ]


def _updated(conversation: str) -> ResourceUpdatedNotification:
    uri = resources.uri_of(conversation)
    return ResourceUpdatedNotification(params=ResourceUpdatedNotificationParams(uri=uri))
