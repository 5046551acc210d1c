"""The context files as they are now: what has changed is read again before the next question.

Where the files are so many that looking at them takes long, they are looked at less often.
"""

import logging
import time
from pathlib import Path
from typing import Protocol

from autopoll.backends.context import Context, Source
from autopoll.backends.contract import Broken, Permanent
from autopoll.backends.stamp import Stamp

LARGEST = 128 * 1024 * 1024  # of text in all; `extract` indexes it in 30 s, half its time to start
LOOK_AGAIN_S = 1.0  # between two looks at the files at most; a look costs a stat per file,
SHARE = 0.05  # and this much of the time may go into looking

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """What is done with the files: indexing them, or making a prompt of them."""

    def put(self, source: Source) -> None:
        """Take a file that is new, or newer than before."""
        ...

    def drop(self, path: Path) -> None:
        """Forget a file that is gone or cannot be read; tolerated when it is not known."""
        ...


class Library:
    """Keeps a reader up to date with a shard's files; used in one thread, but for `closing`."""

    def __init__(self, context: Context, shard: str, reader: Reader) -> None:
        self.context = context
        self.closing = False  # set from outside to cut a long look short
        self._shard, self._reader = shard, reader
        self._known: dict[Path, Stamp] = {}
        self._sizes: dict[Path, int] = {}  # of what the reader holds
        self._size = 0  # of all of it
        self._looked = float("-inf")
        self._cost = 0.0  # seconds that the last look took, without reading

    def look(self) -> None:
        """Bring the reader up to date with the files; raise Broken when they are too large."""
        now = time.monotonic()
        if now - self._looked < min(LOOK_AGAIN_S, self._cost / SHARE):
            return
        files = self.context.files()
        self._cost = time.monotonic() - now
        for path in self._known.keys() - files.keys():
            self._drop(path)
            del self._known[path]
        for path, stamp in files.items():
            if self.closing:
                return
            if self._known.get(path) != stamp:
                self._read(path)
                self._known[path] = stamp
        self._looked = time.monotonic()

    def read(self, name: str) -> Source:
        """Return the context file of that name, as it is this moment; raise Permanent."""
        source = self.context.read(name)
        if self._known.get(source.path) != source.stamp:  # newer than the last look
            self._put(source)
        return source

    def _read(self, path: Path) -> None:
        try:
            self._put(self.context.read(str(path)))
        except Permanent as error:
            self._drop(path)
            _log.info("shard %s: passed over: %s", self._shard, error.what)

    def _drop(self, path: Path) -> None:
        self._reader.drop(path)
        self._size -= self._sizes.pop(path, 0)

    def _put(self, source: Source) -> None:
        self._size += len(source.text) - self._sizes.get(source.path, 0)
        self._sizes[source.path] = len(source.text)
        if self._size > LARGEST:
            raise Broken(
                f"the context of shard {self._shard} is over {LARGEST >> 20} MiB of text",
                "Name narrower files and folders in its `context`.",
            )
        self._reader.put(source)
        self._known[source.path] = source.stamp
