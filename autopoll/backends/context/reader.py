"""The context files as they are now: what has changed is read again before the next question.

Where the files are so many that looking at them takes long, they are looked at less often.
"""

import logging
import time
from pathlib import Path
from typing import Protocol

from autopoll.backends.context.context_files import Context, Source
from autopoll.backends.context.listing import Passed
from autopoll.backends.context.remarks import NOTHING, Remark, Remarks
from autopoll.backends.contract import Broken, Permanent
from autopoll.home.file_stamp import FileStamp

LARGEST = 128 * 1024 * 1024  # of text in all; `extract` indexes it in 30 s, half its time to start
LOOK_AGAIN_S = 1.0  # between two looks at the files at most; a look costs a stat per file,
SHARE = 0.05  # and this much of the time may go into looking
RETRY_S = 0.0001  # for which a file that cannot be read is taken to hold a look up

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """What is done with the files: indexing them, or making a prompt of them."""

    def put(self, source: Source) -> None:
        """Take a file that is new, or newer than before."""
        ...

    def drop(self, path: Path) -> None:
        """Forget a file that is gone or cannot be read; tolerated when it is not known."""
        ...


class ContextReader:
    """Keeps a reader up to date with a shard's files; used in one thread, but for `closing`."""

    def __init__(self, context: Context, shard: str, reader: Reader) -> None:
        self.context = context
        self.remarks = NOTHING  # on the files, at the last look; replaced and never changed
        self.closing = False  # set from outside to cut a long look short
        self._shard, self._reader = shard, reader
        self._known: dict[Path, FileStamp] = {}
        self._sizes: dict[Path, int] = {}  # of what the reader holds
        self._size = 0  # of all of it
        self._remarks: dict[Path, Remark] = {}  # on the files that were read, or were to be
        self._passed: dict[Path, Passed] = {}  # and on what is not even to be read
        self._is_news = False  # since `remarks` was made
        self._looked = float("-inf")
        self._cost = 0.0  # seconds that the last look took, without reading

    def look(self) -> None:
        """Bring the reader up to date with the files; raise Broken when they are too large."""
        now = time.monotonic()
        if now - self._looked < min(LOOK_AGAIN_S, self._cost / SHARE):
            return
        listing = self.context.listing()
        self._cost = time.monotonic() - now
        files = listing.files
        for path in self._known.keys() - files.keys():
            self._drop(path)
            self._remark(path, None)
            del self._known[path]
        # What could not be read may be readable by now without a change of its stamp.
        failed = {path for path, remark in self._remarks.items() if remark.failed}
        for path, stamp in files.items():
            if self.closing:
                return
            if self._known.get(path) != stamp or path in failed:
                self._read(path)
                self._known[path] = stamp
        if self._is_news or self._passed != listing.passed:
            self._is_news, self._passed = False, listing.passed
            passed = listing.remarks(self.context.name)
            self.remarks = Remarks.of([*self._remarks.values(), *passed])
        self._looked = time.monotonic()

    def need_some(self) -> None:
        """Raise Permanent when there are files, and none of them can be read."""
        if not self._sizes and self.remarks.total:
            why = "; ".join(self.remarks.lines(3))
            raise Permanent(
                f"none of the context files of shard {self._shard} can be read: {why}",
                f"Mend them, or name others in its `context`; see: autopoll shards test "
                f"{self._shard}",
            )

    def read(self, name: str) -> Source:
        """Return the context file of that name, as it is this moment; raise Unreadable."""
        source = self.context.read(name)
        if self._known.get(source.path) != source.stamp:  # newer than the last look
            self._put(source)
        return source

    def _read(self, path: Path) -> None:
        found = self.context.found(path)
        if isinstance(found, Source):
            self._put(found)
            return
        self._drop(path)
        self._remark(path, self.context.remark(path, found))
        if found.failed:  # it is tried again at each look, which must not take long
            self._cost += RETRY_S

    def _remark(self, path: Path, remark: Remark | None) -> None:
        if remark == self._remarks.get(path):
            return
        self._remarks.pop(path, None)
        self._is_news = True
        if remark is not None:
            self._remarks[path] = remark
            _log.info("shard %s: %s%s", self._shard, "passed over: " * remark.skipped, remark)

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
        self._remark(source.path, self.context.remark(source.path, source))
