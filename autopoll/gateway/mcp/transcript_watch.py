"""Notices new messages in transcripts that somebody is subscribed to.

Messages come from other processes too, which ring no bell here. So the folder of the store is
watched, and the store is looked at when something was written, and once a second in any case. While
nobody is subscribed, nothing is looked at.
"""

import asyncio
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from autopoll.bridge.foreign_watch import Watch
from autopoll.errors import AutopollError, BridgeError
from autopoll.gateway.hub import Hub
from autopoll.process import role

NET_S = 1.0
# The watch notices a commit as it is written, which is before it can be seen.
BURST_S = (0.002, 0.01, 0.05, 0.25)
PAUSE_S = 0.005  # between two looks, however much is written
RETRY_S = 10.0  # until a watch that could not be made is tried again
PAGE = 500  # messages of one look

log = logging.getLogger(__name__)


class TranscriptReader(Protocol):
    """Whoever is subscribed to transcripts."""

    def changed(self, conversation: str, message_id: int) -> None:
        """Note that a transcript has a new message."""
        ...

    def close(self) -> None:
        """End, as there is nothing to come any more; tolerated twice."""
        ...


class TranscriptWatch:
    """One per process, used as an async context manager.

    `newest` is the id of the newest message that has been looked at.
    """

    def __init__(self, hub: Hub) -> None:
        self.newest = -1
        self._hub = hub
        self._readers: dict[str, set[TranscriptReader]] = {}  # by conversation
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._writes: Watch | None = None
        self._next_try = 0.0
        self._reading: int | None = None  # number of the descriptor that is waited on
        self._ended = False

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(self._watching_ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drain()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        if self._writes:
            self._drop(self._writes)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is subscribed to anything."""
        return self._wanted.is_set()

    async def follow(self, conversation: str, reader: TranscriptReader) -> None:
        """Notify a reader of every message that is committed from now on."""
        self._readers.setdefault(conversation, set()).add(reader)
        if not self.is_wanted:
            newest = await self._hub.call(lambda client: client.bridge.messages.newest())
            # Another one may have been faster, and looks are taken already.
            if self._readers and not self.is_wanted:
                self.newest = newest
                self._wanted.set()
        if self._ended:
            reader.close()

    def unfollow(self, conversation: str, reader: TranscriptReader) -> None:
        """Notify a reader of a conversation no more; tolerated twice."""
        readers = self._readers.get(conversation, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(conversation, None)
        if not self._readers:
            self._wanted.clear()

    def drain(self) -> None:
        """Close all readers, also those that come from now on; may be called twice."""
        self._ended = True
        for reader in {each for readers in self._readers.values() for each in readers}:
            reader.close()

    async def _watch(self) -> None:
        pauses: Iterator[float] = iter(())
        while True:
            await self._wanted.wait()
            await self._listen()
            if await role.wait(self._written, next(pauses, NET_S)):
                self._written.clear()
                pauses = iter(BURST_S)
            try:
                await self._look()
            except AutopollError as error:  # it may pass, so the watching goes on
                log.warning("cannot look for new messages: %s", error)
                await asyncio.sleep(NET_S)
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        """Wait for the next write too, if there is a watch or one can be made."""
        loop = asyncio.get_running_loop()
        if self._writes is None and loop.time() >= self._next_try:
            try:
                self._writes = await self._hub.call(lambda client: client.bridge.watch())
            except BridgeError as error:
                self._later(error)
        if writes := self._writes:
            self._read_nothing()  # a watch that turns out to be dead closes its descriptor
            try:
                await self._hub.call(lambda client: writes.require_alive())
                if writes.after_commit:  # what came with its reply makes nothing readable any more
                    self._on_write(writes)
                if self._writes:
                    self._reading = writes.fileno()
                    loop.add_reader(self._reading, self._on_write, writes)
            except BridgeError as error:
                self._drop(writes)
                self._later(error)

    def _on_write(self, writes: Watch) -> None:
        try:
            written = writes.read()
        except BridgeError as error:
            self._drop(writes)
            self._later(error)
            written = True  # what was lost with it is looked for
        if written:
            self._written.set()
            self._read_nothing()  # until after the next look

    def _drop(self, writes: Watch) -> None:
        """Close a watch; by the number that it had, as a broken one has none any more."""
        self._read_nothing()
        self._writes = None
        writes.close()

    def _read_nothing(self) -> None:
        if self._reading is not None:
            asyncio.get_running_loop().remove_reader(self._reading)
            self._reading = None

    def _later(self, error: BridgeError) -> None:
        self._next_try = asyncio.get_running_loop().time() + RETRY_S
        log.warning("%s: new messages are noticed up to a second late", error.what)

    async def _look(self) -> None:
        """Notify the readers of what is new, whoever has written it."""
        while found := await self._hub.call(
            lambda client: client.bridge.messages.find(after=self.newest, limit=PAGE)
        ):
            self.newest = found[-1].id
            for each in found:
                for reader in self._readers.get(each.conversation, ()):
                    reader.changed(each.conversation, each.id)

    def _watching_ended(self, watching: asyncio.Task[None]) -> None:
        """End the process when a bug ends the watching: no new message would be noticed."""
        if not watching.cancelled() and (error := watching.exception()):
            log.error("the watching of transcripts has crashed", exc_info=error)
            self._hub.crash = error
