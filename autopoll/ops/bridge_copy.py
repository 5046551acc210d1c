"""Copying a bridge from SQLite to PostgreSQL, with all numbers, in one transaction."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from autopoll.bridge.connect import copy_ends
from autopoll.errors import BridgeError, UsageError
from autopoll.home.bridge_url import BridgeUrl
from autopoll.text import MARK, storable


class CopyReport(msgspec.Struct):
    """What was copied, by table, and what was not: whole rows, and tables of other programs.

    `replaced` values held what PostgreSQL stores in no text: NUL, or bytes that are not UTF-8.
    """

    source: str
    target: str
    tables: dict[str, int] = {}
    left_out: dict[str, int] = {}
    not_copied: list[str] = []
    replaced: int = 0


def copy_bridge(source: BridgeUrl, target: BridgeUrl, root: Path) -> CopyReport:
    """Copy all that the source holds; a relative path of it is meant from `root`.

    Everything is copied, or nothing, and the source is left as it is. Raises AlreadyRunning and
    BridgeBusy while either is in use, BridgeError where the target is not empty.
    """
    if source.is_server or not target.is_server:
        raise UsageError(
            "a bridge is copied from SQLite to PostgreSQL",
            "Write: autopoll bridge copy sqlite:///… postgresql://…",
        )
    report = CopyReport(source=str(source), target=str(target))
    with copy_ends(source, target, root) as (old, new):
        columns = {table: new.columns(table) for table in new.tables}
        report.not_copied = old.unknown(columns)
        for table, kinds in columns.items():
            names = [*kinds]
            texts = {name for name, is_text in kinds.items() if is_text}
            keys = [names.index(key) for key in old.keys.get(table, ())]
            rows = _Rows(old.rows(table, names, texts), [name in texts for name in names], keys)
            new.add(table, names, rows)
            _require_whole(table, old.count(table), rows, new.count(table))
            report.tables[table] = rows.count
            report.replaced += rows.replaced
            if left_out := old.count(table) - rows.count:
                report.left_out[table] = left_out
        for table in new.numbered:
            new.go_on_after(table, old.last_number(table))
        new.analyze()
    return report


def _require_whole(table: str, found: int, rows: "_Rows", stored: int) -> None:
    """Raise BridgeError where rows are missing that were not left out on purpose."""
    if stored != rows.count or (found != rows.count and not rows.has_keys):
        raise BridgeError(
            f"{table} has {found} rows, {rows.count} were copied, and {stored} arrived",
            "Nothing was copied. Is there a trigger or a rule on the table?",
        )


class _Rows:
    """The rows of a table as they are stored: texts as autopoll reads them.

    Of rows whose keys are read alike the first is kept.
    """

    def __init__(
        self, rows: Iterator[tuple[Any, ...]], is_text: Sequence[bool], keys: Sequence[int]
    ) -> None:
        self._rows = rows
        self._is_text = is_text
        self._keys = keys
        self._marked: set[tuple[str, ...]] = set()  # only such keys can be read alike
        self.has_keys = bool(keys)
        self.count = 0
        self.replaced = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for row in self._rows:
            stored = tuple(
                self._text(value) if is_text and value is not None else value
                for is_text, value in zip(self._is_text, row, strict=True)
            )
            key = tuple(stored[place] for place in self._keys)
            if any(MARK in part for part in key):
                if key in self._marked:
                    continue
                self._marked.add(key)
            self.count += 1
            yield stored

    def _text(self, value: bytes) -> str:
        text = storable(value.decode("utf-8", "replace"))
        if MARK in text and text.encode() != value:
            self.replaced += 1
        return text
