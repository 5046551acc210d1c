"""Notices that a foreign program has written into the bridge, which rings no bell.

Without a watch, as when the kernel has no more of them, nothing is lost: the poller looks by itself
once a second, and says why it is slower.

What the watch of a file notices is the beginning of a commit, before it can be seen. So each event
is followed by a burst of looks until the commit can be seen, and for a moment after it no further
event is read. Most of what it notices is our own: that is dropped, and later looks stand in for it.
A server notifies of commits that can be seen, and are not ours: then nothing else is looked for.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from autopoll.bridge.foreign_watch import Watch
from autopoll.bridge.protocols import Bridge
from autopoll.errors import BridgeError

# inotify fires when a commit is written, before the fsync after which it can be seen: mostly within
# 2 ms, but a busy disk was seen to take 50.
BURST_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256)
LATE_S = BURST_S[3:]  # the looks after a commit of our own
IGNORED_S = 0.002  # after an event of the folder: each write is one, and most are our own
TOGETHER_S = 0.01  # between two notifications: one stands for all commits in it
RETRY_S = 10.0  # until a watch that could not be made is tried again

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class ForeignWrites:
    """Calls `on_change` on the running loop whenever somebody else's commit can be seen.

    `trouble` says why it does not, while it does not.
    """

    def __init__(self, bridge: Bridge, on_change: Callable[[], None]) -> None:
        self.trouble = ""
        self._bridge = bridge
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._watch: Watch | None = None
        self._reading = -1  # its descriptor
        self._next_try = 0.0
        self._next_read: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._next_notify: asyncio.TimerHandle | None = None
        self._notified_at = 0.0
        self._own = False  # we have committed since the burst began

    def check(self) -> None:
        """Make the watch if there is none; cheap enough for once a second."""
        if self._watch:
            self._use(self._watch.require_alive)
        if self._watch or self._loop.time() < self._next_try:
            return
        try:
            self._watch = self._bridge.watch()
        except BridgeError as error:
            self._next_try = self._loop.time() + RETRY_S
            if self.trouble != (trouble := f"{error.what}: foreign messages take up to a second"):
                self.trouble = trouble
                log.warning("%s; %s", trouble, error.mend)
            return
        if self.trouble:
            self.trouble = ""
            log.info("foreign messages are noticed at once again")
        self._read_events()
        if self._watch.after_commit:
            self._on_change()  # what came before it was there

    def committed(self, *, news: bool = True) -> None:
        """Let other homes know of `news`; of a file, drop the events of a commit of ours.

        It has also looked for all there is to do.
        Nobody else writes while we hold the write lock, and what was written before that we have
        seen. What somebody began in the moment since then is left to the later looks.
        """
        if self._watch is None:
            return
        if self._watch.after_commit:
            if news and self._next_notify is None:
                self._next_notify = self._loop.call_at(self._notified_at + TOGETHER_S, self._notify)
            return
        self._watch.drop()
        self._own = True
        if self._next_look is None:
            self._look_after(())

    def close(self) -> None:
        """Watch no more; tolerated twice."""
        for timer in (self._next_read, self._next_look, self._next_notify):
            if timer:
                timer.cancel()
        if self._watch:
            self._close_watch(self._watch)

    def _close_watch(self, watch: Watch) -> None:
        self._watch = None
        self._read_no_events()
        watch.close()

    def _notify(self) -> None:
        self._next_notify, self._notified_at = None, self._loop.time()
        if self._watch:
            self._use(self._watch.notify)

    def _use(self, use: Callable[[], None]) -> None:
        """Use the watch; what a server sent with its reply makes nothing readable any more."""
        self._drop_dead(use)
        if self._watch and self._watch.after_commit:
            self._on_write()

    def _drop_dead(self, use: Callable[[], _Result]) -> _Result | None:
        """Use the watch; when it turns out to be of no more use, have another made soon."""
        try:
            return use()
        except BridgeError as error:
            log.warning("%s: foreign messages take up to a second", error.what)
            if self._watch:
                self._close_watch(self._watch)
            return None

    def _read_events(self) -> None:
        if self._watch:
            self._reading = self._watch.fileno()
            self._loop.add_reader(self._reading, self._on_write)

    def _read_no_events(self) -> None:
        # By its number: a watch that has failed is closed, and has none any more. Left to the loop,
        # it would keep the next watch of the same number from being waited for.
        self._loop.remove_reader(self._reading)

    def _on_write(self) -> None:
        """Look, as somebody has written, ourselves included, and read no event for a moment."""
        if self._watch is None:
            return
        watch = self._watch
        written = self._drop_dead(watch.read)
        if watch.after_commit:
            if written:
                self._on_change()
            return
        if written:
            self._look_after(BURST_S)
        self._read_no_events()
        self._next_read = self._loop.call_later(IGNORED_S, self._read_events)

    def _look_after(self, burst: tuple[float, ...]) -> None:
        """Look again and again until the commit can be seen.

        The burst goes on after that: one event may stand for two commits, and show only the first.
        After it come the late looks, where a commit of ours may have hidden an event meanwhile.
        """
        if self._next_look:
            self._next_look.cancel()
        if not burst and self._own:
            burst, self._own = LATE_S, False
        self._next_look = self._loop.call_later(burst[0], self._look, burst) if burst else None

    def _look(self, burst: tuple[float, ...]) -> None:
        try:
            changed = self._bridge.changed()
        except BridgeError:
            changed = True  # the next turn meets the same error, and reports it
        if changed:
            self._on_change()
        self._look_after(burst[1:])
