"""Following what comes into the bridge: on and on, through its outages, each row once."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol, TypeVar

from autopoll.bridge.connect import connect
from autopoll.bridge.foreign_watch import Watch
from autopoll.bridge.protocols import Bridge
from autopoll.cli import output
from autopoll.cli.base_command import CommandLine
from autopoll.cli.output import say
from autopoll.errors import BridgeError

PAGE = 500  # rows of one look
NET_S = 1.0  # until the next look where nothing was noticed
# A watch may notice a write before what was written can be seen.
BURST_S = (0.002, 0.01, 0.05, 0.25)
PAUSE_S = 0.005  # between two looks, however much is written
RETRY_S = 10.0  # until a watch that could not be made is tried again


class Numbered(Protocol):
    """A row of the bridge; a newer one has a higher number."""

    @property
    def id(self) -> int:
        """Its number."""


Row = TypeVar("Row", bound=Numbered)


def followed(
    cli: CommandLine,
    newest: Callable[[Bridge], int],
    look: Callable[[Bridge, int], list[Row]],
    beyond: int,
) -> Iterator[Row]:
    """Yield every row beyond a number, for ever, each once and in order.

    `newest` returns the number up to which no row can come any more, and `look` the first rows
    beyond a number. While the bridge cannot be read, stderr says so, and it is tried again.
    """
    away = False
    while True:
        try:
            with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
                beyond = min(beyond, newest(bridge))  # lower where a backup was put back
                if away:
                    say("the bridge can be read again", err=True)
                away = False
                for row in _rows(bridge, newest, look, beyond):
                    beyond = max(beyond, row.id)
                    yield row
        except BridgeError as error:
            if not away:
                say(f"{error.what}; going on when it can be read again", err=True)
            away = True
            output.require_reader()
            time.sleep(NET_S)


def _rows(
    bridge: Bridge,
    newest: Callable[[Bridge], int],
    look: Callable[[Bridge, int], list[Row]],
    beyond: int,
) -> Iterator[Row]:
    pauses = iter(BURST_S)
    with closing(_WriteWait(bridge)) as changes:
        bridge.changed()  # from here on
        while True:
            # Before the look, so that what is left out by its conditions is not looked at again.
            settled = newest(bridge)
            rows = look(bridge, beyond)
            yield from rows
            if rows:  # a page may end early, and so there may be more
                beyond = max(beyond, rows[-1].id)
                continue
            beyond = max(beyond, settled)
            while True:
                if changes.wait(next(pauses, NET_S)):
                    pauses = iter(BURST_S)
                bridge.require_in_place()
                if bridge.changed():
                    break


class _WriteWait:
    """Waits for what other programs write into a bridge, with its watch if there can be one."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._watch: Watch | None = None
        self._next_try = 0.0

    def wait(self, seconds: float) -> bool:
        """Return whether something may have been written, after so long at most.

        Raises ReaderGone when nobody reads our output any more.
        """
        poll = select.poll()
        if (reader := output.descriptor()) is not None:
            poll.register(reader, 0)
        try:
            watch = self._open_watch()
            # What came with the reply of a look at the watch makes nothing readable any more.
            if watch is not None and watch.after_commit and watch.read():
                return True
            if watch is not None:
                poll.register(watch.fileno(), select.POLLIN)
            ready = dict(poll.poll(seconds * 1000))
            if reader is not None and ready.pop(reader, 0) & select.POLLERR:
                raise output.ReaderGone
            if watch is None or not ready:
                return False
            time.sleep(PAUSE_S)
            return watch.read()
        except BridgeError:
            # Whether the bridge itself can be read shows at the next look.
            self.close()
            self._next_try = time.monotonic() + RETRY_S
            return True

    def _open_watch(self) -> Watch | None:
        if self._watch is None and time.monotonic() >= self._next_try:
            self._watch = self._bridge.watch()
        if self._watch is not None:
            self._watch.require_alive()
        return self._watch

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
