"""The audit log as it is read, page by page."""

from typing import Any

from autopoll.bridge.records import AuditEntry
from autopoll.bridge.sql.database import Database
from autopoll.bridge.sql.rows import readable, stored

_DETAILS = 64 << 10  # bytes that are shown of one line


class AuditTrail:
    """Lines of the audit log, our own and those of other programs."""

    def __init__(self, db: Database) -> None:
        self._db = db
        # What others stored there need not be text, nor as short as ours.
        names = ("conversation_id", "session_id", "action", "details", "timestamp")
        first, second, third, details, last = (stored(db.dialect, name) for name in names)
        self._columns = f"id, {first}, {second}, {third}, substr({details},1,{_DETAILS}), {last}"

    def entries(
        self,
        *,
        conversation: str | None = None,
        action: str | None = None,
        since: str | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        terms: list[tuple[str, Any]] = [("id>?", after), ("id<=?", self._db.decided("audit_log"))]
        if before is not None:
            terms.append(("id<?", before))
        if conversation is not None:
            terms.append(("conversation_id=?", conversation))
        if action is not None:
            terms.append(("action=?", action))
        if since is not None:  # other programs write a blank where we write a T
            terms.append(("replace(timestamp,' ','T')>=?", since))
        where = " AND ".join(term for term, _ in terms)
        order = "ASC" if after else "DESC"
        rows = self._db.rows(
            f"SELECT {self._columns} FROM audit_log WHERE {where} ORDER BY id {order} LIMIT ?",
            (*(value for _, value in terms), limit),
        )
        return [_entry(*row) for row in (rows if after else reversed(rows))]

    def newest(self) -> int:
        rows = self._db.rows(
            "SELECT id FROM audit_log WHERE id<=? ORDER BY id DESC LIMIT 1",
            (self._db.decided("audit_log"),),
        )
        return rows[0][0] if rows else -1


def _entry(
    number: int,
    conversation: bytes | str | None,
    session: bytes | str | None,
    action: bytes | str | None,
    details: bytes | str | None,
    timestamp: bytes | str | None,
) -> AuditEntry:
    return AuditEntry(
        id=number,
        conversation=readable(conversation),
        session=readable(session),
        action=readable(action) or "",
        details=readable(details) or "",
        timestamp=readable(timestamp) or "",
    )
