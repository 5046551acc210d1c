"""The embedded default: finds the passages of the context files that answer, and cites them.

It never writes a sentence of its own about the matter: the answer is the passage as it stands in
the file, shortened to what matters, or an honest "nothing found".
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Annotated, TypeVar

import apsw
import msgspec

from autopoll.backends.context.context_files import Context, Source
from autopoll.backends.context.paragraphs import cut
from autopoll.backends.context.reader import ContextReader
from autopoll.backends.context.remarks import NOTHING, Remarks
from autopoll.backends.context.search import Hit, Index
from autopoll.backends.contract import Broken, Report, Setting
from autopoll.backends.options import Options, read_options
from autopoll.message import Answer
from autopoll.request import Reply, Request

_T = TypeVar("_T")


class ExtractOptions(Options, frozen=True, kw_only=True):
    """Options of the backend `extract` in autopoll.toml."""

    passages: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3


class Extract:
    """A full-text index of the context, kept up to date, in a thread of its own."""

    concurrency = 4

    def __init__(self, setting: Setting) -> None:
        self._options = read_options(setting, ExtractOptions)
        self._context = Context(setting)
        self._shard = setting.shard
        self._library: _IndexedFiles | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Index the context."""
        if self._thread is None:
            # One thread: SQLite takes long for large files, and one by one is fast enough.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="extract")
            self._library = _IndexedFiles(self._context, self._shard)
            await self._run(_IndexedFiles.look)

    async def answer(self, request: Request, report: Report) -> Reply:
        """Return the passages that answer best, with citations, or that there are none."""
        question, name, limit = request.question, request.context_file, self._options.passages
        return await self._run(lambda library: library.answer(question, name, limit))

    @property
    def remarks(self) -> Remarks:
        """Remarks on single files of the context."""
        return self._library.remarks if self._library is not None else NOTHING

    async def probe(self) -> None:
        """Search for something; raise Broken when the index cannot be searched."""
        await self._run(_IndexedFiles.check)

    async def stop(self) -> None:
        """Forget the index."""
        library, self._library = self._library, None
        thread, self._thread = self._thread, None
        if library is not None and thread is not None:
            library.close_soon()
            thread.submit(library.close)
            thread.shutdown(wait=False)

    async def _run(self, work: Callable[["_IndexedFiles"], _T]) -> _T:
        if self._library is None or self._thread is None:
            raise Broken("the extract backend is not started")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work, self._library)
        except apsw.Error as error:
            raise Broken(f"the index cannot be searched: {error}") from error


class _IndexedFiles:
    """The indexed context files; used in one thread, but for `closing`."""

    def __init__(self, context: Context, shard: str) -> None:
        self._context = context
        self._index = Index()
        self._files = ContextReader(context, shard, self)

    def close(self) -> None:
        self._index.close()

    def close_soon(self) -> None:
        """Cut a long look short; called from another thread."""
        self._files.closing = True

    @property
    def remarks(self) -> Remarks:
        return self._files.remarks

    def check(self) -> None:
        self._index.check()

    def look(self) -> None:
        self._files.look()

    def answer(self, question: str, name: str | None, limit: int) -> Reply:
        """Search all files, or the named one; raise Permanent when that cannot be read."""
        self.look()
        only = None if name is None else self._files.read(name).path
        self._files.need_some()
        hits = self._index.search(question, limit, only)
        if not hits:
            where = "the context files" if only is None else self._context.name(only)
            return Reply(answer=Answer(text=f"Nothing found in {where} that answers this."))
        return Reply(
            answer=Answer(
                text="\n\n".join(self._show(hit) for hit in hits),
                sources=[self._cite(hit) for hit in hits],
            )
        )

    def put(self, source: Source) -> None:
        """Index a file."""
        title = self._context.name(source.path.with_suffix(""))
        self._index.put(source.path, title, cut(source.text, source.path.suffix))

    def drop(self, path: Path) -> None:
        """Take a file out of the index."""
        self._index.drop(path)

    def _cite(self, hit: Hit) -> str:
        return self._context.cite(hit.path, hit.paragraphs[0].first, hit.paragraphs[-1].last)

    def _show(self, hit: Hit) -> str:
        """Return the passage as it stands in the file, under its citation and headings."""
        first = hit.paragraphs[0]
        text = f"{first.lead}\n…\n{first.text}" if first.lead else first.text
        for before, after in pairwise(hit.paragraphs):
            text += "\n" * (after.first - before.last) + after.text
        return f"[{self._cite(hit)}] {' > '.join(hit.best.headings)}".rstrip() + f"\n{text}"
