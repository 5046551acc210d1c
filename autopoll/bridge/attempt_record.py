"""What is kept of each attempt to answer a question, beside its delivery.

It is written by the statement that ends the attempt, and costs no write of its own.
"""

import time
from collections.abc import Sequence

import msgspec

from autopoll.request import Usage

KEPT = 20  # attempts of one question; the first and the newest are the most telling
_LONGEST = 500  # characters of an error


class AttemptTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Who made an attempt, and when; moments of CLOCK_MONOTONIC, in seconds.

    `host` and `home` (a folder) are named where several homes share the bridge.
    """

    worker: str
    pid: int
    claimed: float
    sent: float
    begun: float | None  # at the first sign of work
    ended: float
    piece: float | None = None  # of the answer, the first
    host: str | None = None
    home: str | None = None


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt as it is stored; times are wall-clock milliseconds by the clock of the store.

    Only `outcome` and `stored` are known of one that somebody else has ended, because its poller
    was gone.
    """

    attempt: int
    outcome: str  # answered | failed | released | dead | cancelled
    stored: int
    claimed: int | None = None
    sent: int | None = None
    begun: int | None = None
    piece: int | None = None
    ended: int | None = None
    worker: str | None = None
    pid: int | None = None
    host: str | None = None
    home: str | None = None
    error: str | None = None
    usage: Usage | None = None


def record_of(
    attempt: int,
    outcome: str,
    now: int,
    times: AttemptTimes | None,
    error: str | None = None,
    usage: Usage | None = None,
) -> AttemptRecord:
    """Return what is to be stored at `now` (ms) of an attempt that has come to its end."""
    known: dict[str, int | str | None] = {}
    if times is not None:
        moment = time.monotonic()

        def at(value: float | None) -> int | None:
            return None if value is None else now - round((moment - value) * 1000)

        known = {
            "claimed": at(times.claimed), "sent": at(times.sent), "begun": at(times.begun),
            "piece": at(times.piece), "ended": at(times.ended), "worker": times.worker,
            "pid": times.pid, "host": times.host, "home": times.home,
        }  # fmt: skip
    return AttemptRecord(
        attempt=attempt,
        outcome=outcome,
        stored=now,
        error=error[:_LONGEST] if error else None,
        usage=usage,
        **known,  # type: ignore[arg-type]
    )


def with_record(history: str | None, record: AttemptRecord) -> str:
    """Return the history of a delivery with one attempt more."""
    kept = read_history(history)
    if len(kept) >= KEPT:
        kept = [kept[0], *kept[len(kept) - KEPT + 2 :]]
    return msgspec.json.encode([*kept, record]).decode()


def with_cancelled(
    history: str | None, attempt: int, now: int, times: AttemptTimes, error: str
) -> str | None:
    """Return the history with the attempt that a cancellation has ended, as its poller tells later.

    None where that is known already, or where it was an earlier attempt, which others have ended.
    """
    record = record_of(attempt, "cancelled", now, times, error)
    last = next(iter(read_history(history)[-1:]), None)
    if last and (last.outcome == "cancelled" or last.stored > (record.claimed or 0)):
        return None
    return with_record(history, record)


def read_history(history: str | None) -> Sequence[AttemptRecord]:
    """Return the attempts of a delivery, oldest first; none of what cannot be read."""
    if not history:
        return []
    try:
        return msgspec.json.decode(history, type=list[AttemptRecord])
    except (msgspec.MsgspecError, UnicodeError):  # another program's, or of another version
        return []
