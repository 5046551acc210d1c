"""Removes what is old, in every engine alike; what it may never remove is said in the protocol."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from autopoll.bridge.retention_protocol import Ages, PrunedRows, SweepPlace, SweepStep
from autopoll.bridge.sql.database import Database, Row
from autopoll.bridge.sql.idempotency import KEPT_MS
from autopoll.bridge.sql.lanes import CANARY_LANES
from autopoll.bridge.sql.rows import readable, stored
from autopoll.clock import parse_utc_ms

WINDOW = 500  # rows that a step looks at
_LARGEST = 1 << 20  # bytes of text that a step removes: of what is long, each page takes time
_NEVER = -1  # a moment before which nothing was
_SWEEP = "autopoll retention"  # of the lock that one host at a time holds
# What autopoll writes; lines of other actions are other programs'.
_ACTIONS = frozenset(
    {
        "query_answered", "query_cancelled", "access_denied", "conversation_created",
        "token_rotated", "token_revoked",
    }
)  # fmt: skip

_WINDOW_END = """SELECT coalesce(max({id}),0), count(*) FROM (
  SELECT {id} FROM {table} WHERE {id}>? ORDER BY {id} LIMIT ?) w"""
# Those of earlier versions are known by their metadata, which is read of what is short only.
_CANARY = """({own} AND (d.lane LIKE '{lanes}'
  OR octet_length(q.message)<1000 AND {named} AND CAST({marked} AS TEXT) IN ('1','true')))"""
_SETTLED = """SELECT d.message_id, a.answer_id, {own}, {canary},
    coalesce(octet_length(q.message),0)+coalesce(octet_length(r.message),0)
  FROM deliveries d LEFT JOIN answers a ON a.query_id=d.message_id
  LEFT JOIN messages q ON q.id=d.message_id LEFT JOIN messages r ON r.id=a.answer_id
  WHERE d.state IN ('done','dead') AND q.read IS DISTINCT FROM 0
    AND ({own} OR r.read IS DISTINCT FROM 0) AND """
_OLD = """d.message_id>:after AND d.message_id<=:upto
    AND (d.settled_at<=:answered AND (d.state='done' OR d.dismissed_at IS NOT NULL)
      OR d.settled_at<=:canaries AND {canary})
    AND {repeatable}
  ORDER BY d.message_id LIMIT :most"""
_REPEATABLE = "{} NOT IN (SELECT message_id FROM keys WHERE made_at>:keys)"
_FOREIGN = """SELECT m.id, coalesce(octet_length(m.message),0), {timestamp} FROM messages m
  WHERE m.id>:after AND m.id<=:upto AND m.read IS DISTINCT FROM 0
    AND NOT EXISTS(SELECT 1 FROM deliveries d WHERE d.message_id=m.id)
    AND NOT EXISTS(SELECT 1 FROM answers a WHERE a.query_id={question} AND a.answer_id=m.id)
    AND {repeatable}
  ORDER BY m.id"""


class SqlRetention(ABC):
    """The RetentionStore, but for the room in the file."""

    def __init__(self, db: Database) -> None:
        self._db = db
        words = db.dialect
        own = "NOT " + words.contains.format("d.lane", "'/'")
        marked = words.json_text.format("q.metadata", "canary")
        named = words.contains.format("q.metadata", "'canary'")  # to read as JSON what may be one
        canary = _CANARY.format(own=own, lanes=CANARY_LANES, named=named, marked=marked)
        self._settled = _SETTLED.format(own=own, canary=canary)
        self._old = _OLD.format(canary=canary, repeatable="{}")
        self._foreign = _FOREIGN.format(
            timestamp=stored(words, "m.timestamp"),
            question=words.json_integer.format("m.metadata", "in_reply_to"),
            repeatable="{}",
        )
        self._audit = (
            f"SELECT id, {stored(words, 'action', 'timestamp')} FROM audit_log"
            " WHERE id>:after AND id<=:upto ORDER BY id"
        )
        self._parts = (
            self._sweep_settled, self._sweep_foreign, self._sweep_audit, self._sweep_keys
        )  # fmt: skip

    @abstractmethod
    def free_bytes(self) -> int: ...

    @abstractmethod
    def used_bytes(self) -> int: ...

    @abstractmethod
    def rewrite(self) -> None: ...

    def sweep(
        self, ages: Ages, place: SweepPlace, most: int, *, dry_run: bool = False
    ) -> SweepStep:
        removed = PrunedRows()
        after = self._parts[place.part](ages, place.after, most, removed, dry_run)
        if after is not None:
            return SweepStep(removed, SweepPlace(place.part, after))
        last = place.part + 1 == len(self._parts)
        return SweepStep(removed, None if last else SweepPlace(place.part + 1))

    def remove(self, message_ids: Sequence[int]) -> int:
        if not message_ids:
            return 0
        among = f"d.message_id IN ({self._db.dialect.numbers.format('?')})"
        with self._db.writing(durable=False):
            rows = self._db.rows(
                f"{self._settled}{among} {self._db.dialect.for_update}",
                (json.dumps(list(message_ids)),),
            )
            return len(self._remove(rows))

    # --- the parts of a sweep; each returns where to go on, None at its end

    def _sweep_settled(
        self, ages: Ages, after: int, most: int, removed: PrunedRows, dry_run: bool
    ) -> int | None:
        if ages.answered is None and ages.canaries is None:
            return None
        upto, count = self._window("deliveries", "message_id", after)
        now = self._db.clock()
        values = {
            "answered": _moment(now, ages.answered), "canaries": _moment(now, ages.canaries),
            "after": after, "upto": upto, "most": most, "keys": now - KEPT_MS,
        }  # fmt: skip
        condition = self._repeatable("d.message_id", ages.answered, values)
        query = f"{self._settled}{self._old.format(condition)}"
        found = _first_of(self._db.rows(query, values))
        went = found
        if found and not dry_run:
            with self._db.writing(durable=False):
                if not self._db.try_lock(_SWEEP):
                    return None  # another host sweeps
                # Once more, as others may have changed it; and locked.
                locked = f"{query} {self._db.dialect.for_update}"
                found = _first_of(self._db.rows(locked, values))
                gone = self._remove(found)
            went = [row for row in found if row[0] in gone]
        for _, _, _, is_canary, size in went:
            removed.canaries += bool(is_canary)
            removed.questions += not is_canary
            removed.text_bytes += size
        if found and (len(found) == most or _size(found) >= _LARGEST):
            return int(found[-1][0])
        return upto if count == WINDOW else None

    def _sweep_foreign(
        self, ages: Ages, after: int, most: int, removed: PrunedRows, dry_run: bool
    ) -> int | None:
        if ages.foreign is None:
            return None
        upto, count = self._window("messages", "id", after)
        now = self._db.clock()
        values = {"after": after, "upto": upto, "keys": now - KEPT_MS}
        condition = self._repeatable("m.id", ages.foreign, values)
        rows = self._db.rows(self._foreign.format(condition), values)
        old = [row for row in rows if _is_older(row[2], now - ages.foreign)]
        found = _first_of([(number, size) for number, size, _ in old[:most]])
        still_read = " AND read IS DISTINCT FROM 0"  # as somebody may set one back meanwhile
        if found and not dry_run and not self._delete("messages", found, still_read):
            return None
        removed.foreign_messages += len(found)
        removed.text_bytes += _size(found)
        if len(found) < len(old):
            return int(found[-1][0])
        return upto if count == WINDOW else None

    def _sweep_audit(
        self, ages: Ages, after: int, most: int, removed: PrunedRows, dry_run: bool
    ) -> int | None:
        if ages.audit is None and ages.foreign is None:
            return None
        upto, count = self._window("audit_log", "id", after)
        now = self._db.clock()
        old = [
            (number,)
            for number, action, at in self._db.rows(self._audit, {"after": after, "upto": upto})
            if (age := ages.audit if readable(action) in _ACTIONS else ages.foreign) is not None
            and _is_older(at, now - age)
        ]
        found = old[:most]
        if found and not dry_run and not self._delete("audit_log", found):
            return None
        removed.audit_lines += len(found)
        if len(found) < len(old):
            return int(found[-1][0])
        return upto if count == WINDOW else None

    def _sweep_keys(
        self, ages: Ages, after: int, most: int, removed: PrunedRows, dry_run: bool
    ) -> int | None:
        """Remove keys of which nothing is remembered any more; they are found by their age."""
        rows = self._db.rows(
            f"SELECT id FROM keys WHERE made_at<=? ORDER BY made_at LIMIT {most} OFFSET ?",
            (self._db.clock() - KEPT_MS, after),
        )
        if rows and not dry_run and not self._delete("keys", rows):
            return None
        removed.keys += len(rows)
        if len(rows) < most:
            return None
        return after + len(rows) if dry_run else 0

    # ---

    def _window(self, table: str, column: str, after: int) -> tuple[int, int]:
        """Return the number up to which a step looks, and how many rows that is."""
        [(upto, count)] = self._db.rows(_WINDOW_END.format(table=table, id=column), (after, WINDOW))
        return upto, count

    def _repeatable(self, column: str, age: int | None, values: dict[str, Any]) -> str:
        """Return the condition that a message is not known by a key, where it may be."""
        if age is not None and age < KEPT_MS:
            return _REPEATABLE.format(column)
        del values["keys"]
        return "TRUE"

    def _remove(self, rows: Sequence[Row]) -> set[int]:
        """Remove settled questions with what belongs to them; return the numbers of those gone.

        A question that stays, as another program's trigger may have it, keeps its delivery: without
        it, it would be asked once more.
        """
        numbers = json.dumps([row[0] for row in rows])
        among = f"IN ({self._db.dialect.numbers.format('?')})"
        self._db.rows(
            f"DELETE FROM messages WHERE id {among} AND read IS DISTINCT FROM 0", (numbers,)
        )
        left = {
            number for (number,) in
            self._db.rows(f"SELECT id FROM messages WHERE id {among}", (numbers,))
        }  # fmt: skip
        gone = {row[0] for row in rows} - left
        answers = [row[1:3] for row in rows if row[0] in gone and row[1] is not None]
        self._db.rows(f"DELETE FROM answers WHERE query_id {among}", (_json(gone),))
        self._db.rows(f"DELETE FROM deliveries WHERE message_id {among}", (_json(gone),))
        self._db.rows(
            f"DELETE FROM messages WHERE id {among}", (_json(a for a, is_own in answers if is_own),)
        )
        self._db.rows(
            f"DELETE FROM messages WHERE id {among} AND read IS DISTINCT FROM 0",
            (_json(answer for answer, is_own in answers if not is_own),),
        )
        return gone

    def _delete(self, table: str, rows: Sequence[Row], condition: str = "") -> bool:
        """Remove rows by their id; return False where another host sweeps."""
        among = self._db.dialect.numbers.format("?")
        with self._db.writing(durable=False):
            if not self._db.try_lock(_SWEEP):
                return False
            self._db.rows(
                f"DELETE FROM {table} WHERE id IN ({among}){condition}",
                (_json(row[0] for row in rows),),
            )
        return True


def _json(numbers: Any) -> str:
    return json.dumps(sorted(numbers))


def _moment(now: int, age: int | None) -> int:
    return _NEVER if age is None else now - age


def _is_older(at: bytes | str | None, moment: int) -> bool:
    """Tell whether a time in a legacy table is past; what cannot be read is not."""
    written = parse_utc_ms(readable(at))
    return written is not None and written <= moment


def _size(rows: Sequence[Row]) -> int:
    return sum(row[-1] for row in rows)


def _first_of(rows: Sequence[Row]) -> list[Row]:
    """Return the first rows, the last of which is a size, up to _LARGEST of them together."""
    size, found = 0, []
    for row in rows:
        found.append(row)
        size += row[-1]
        if size >= _LARGEST:
            break
    return found
