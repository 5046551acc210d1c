"""The embedded default: finds the passages of the context files that answer, and cites them.

It never writes a sentence of its own about the matter: the answer is the passage as it stands in
the file, shortened to what matters, or an honest "nothing found".
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeVar

import apsw
import msgspec

from autopoll.backends.context import Context, Source, Stamp
from autopoll.backends.contract import Broken, Permanent, Report, Setting
from autopoll.backends.options import Options, read_options
from autopoll.backends.passages import cut
from autopoll.backends.search import Hit, Index
from autopoll.message import Answer
from autopoll.request import Reply, Request

LOOK_AGAIN_S = 1.0  # between two looks at the files; a look costs a stat per file

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class ExtractOptions(Options, frozen=True, kw_only=True):
    """What `extract` can be told in autopoll.toml."""

    passages: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3


class Extract:
    """A full-text index of the context, kept up to date, in a thread of its own."""

    concurrency = 4

    def __init__(self, setting: Setting) -> None:
        self._options = read_options(setting, ExtractOptions)
        self._context = Context(setting)
        self._shard = setting.shard
        self._index: Index | None = None
        # One thread, because the index is not safe across threads and must not hold up the loop.
        self._thread: ThreadPoolExecutor | None = None
        self._known: dict[Path, Stamp] = {}
        self._looked = float("-inf")
        self._stopping = False

    async def start(self) -> None:
        """Index the context."""
        if self._thread is None:
            self._stopping = False
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="extract")
            await self._run(self._open)

    async def answer(self, request: Request, report: Report) -> Reply:
        """Return the passages that answer best, with citations, or say that there are none."""
        return await self._run(lambda: self._answer(request))

    async def probe(self) -> None:
        """Search for something; raise Broken when the index cannot be searched."""
        await self._run(lambda: self._opened().check())

    async def stop(self) -> None:
        """Forget the index."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            thread.submit(self._close)
            thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise Broken("the extract backend is not started")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except apsw.Error as error:
            raise Broken(f"the index cannot be searched: {error}") from error

    # --- in the thread

    def _opened(self) -> Index:
        if self._index is None:
            raise Broken("the extract backend is stopped")
        return self._index

    def _open(self) -> None:
        self._index = Index()
        self._known.clear()
        self._looked = float("-inf")
        self._look()

    def _close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None

    def _answer(self, request: Request) -> Reply:
        index = self._opened()
        self._look()
        only = None
        if request.context_file is not None:
            source = self._context.read(request.context_file)
            only = source.path
            if self._known.get(only) != source.stamp:  # newer than the last look
                self._put(index, source)
        hits = index.search(request.question, self._options.passages, only)
        if not hits:
            where = "the context files" if only is None else self._context.name(only)
            return Reply(answer=Answer(text=f"Nothing found in {where} that answers this."))
        return Reply(
            answer=Answer(
                text="\n\n".join(self._show(hit) for hit in hits),
                sources=[self._cite(hit) for hit in hits],
            )
        )

    def _look(self) -> None:
        """Bring the index up to date with the files, at most once a second."""
        index = self._opened()
        if time.monotonic() - self._looked < LOOK_AGAIN_S:
            return
        files = self._context.files()
        for path in self._known.keys() - files.keys():
            index.drop(path)
            del self._known[path]
        for path, stamp in files.items():
            if self._stopping:
                return
            if self._known.get(path) != stamp:
                self._read(index, path)
                self._known[path] = stamp
        self._looked = time.monotonic()

    def _read(self, index: Index, path: Path) -> None:
        try:
            self._put(index, self._context.read(str(path)))
        except Permanent as error:
            index.drop(path)
            _log.info("shard %s: passed over: %s", self._shard, error.what)

    def _put(self, index: Index, source: Source) -> None:
        title = self._context.name(source.path.with_suffix(""))
        index.put(source.path, title, cut(source.text, source.path.suffix))
        self._known[source.path] = source.stamp

    def _cite(self, hit: Hit) -> str:
        return self._context.cite(hit.path, hit.paragraphs[0].first, hit.paragraphs[-1].last)

    def _show(self, hit: Hit) -> str:
        """Return the passage as it stands in the file, under its citation and headings."""
        text = hit.paragraphs[0].text
        for before, after in pairwise(hit.paragraphs):
            text += "\n" * (after.first - before.last) + after.text
        return " > ".join([f"[{self._cite(hit)}]", *hit.best.headings]) + f"\n{text}"
