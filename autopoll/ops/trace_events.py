"""What happened to a question, each with its time, as the bridge knows it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from autopoll.bridge.attempt_record import AttemptRecord
from autopoll.bridge.question_history import QuestionHistory
from autopoll.ops.under_way import UnderWay
from autopoll.request import Usage

CANCELLED = "cancelled"
_ENDS = ("answered", "dead", CANCELLED)
_SKEW_MS = 5_000  # what goes back further shows that a clock was set


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a question, or to a process meanwhile (state `incident`)."""

    at: str
    state: str
    detail: str
    attempt: int | None = None
    worker: str | None = None
    pid: int | None = None
    host: str | None = None
    home: str | None = None  # its folder
    usage: Usage | None = None
    process: str | None = None
    verdict: str | None = None


def state_of(history: QuestionHistory) -> str:
    """Return how a question stands; one that was cancelled has a state of its own."""
    if history.state == "done":
        return "answered"
    return CANCELLED if _is_cancelled(history) else history.state


def _is_cancelled(history: QuestionHistory) -> bool:
    error = history.last_error or ""
    return history.state == "dead" and error.casefold().startswith(CANCELLED)


def first_known(history: QuestionHistory) -> int | None:
    """Return the earliest time that is known of a question."""
    known = [each for each in (history.sent_at, history.enrolled_at) if each is not None]
    return min(known, default=None)


def events_of(
    history: QuestionHistory, here: UnderWay | None, *, ahead: int, shared: bool
) -> list[TraceEvent]:
    """Return what happened to the question, in order.

    The clock of the store is `ahead` of this host's by so many milliseconds; on a `shared` bridge
    homes are named.
    """
    before = 0
    events = []
    for at, event in _steps(history, here, ahead, shared):
        # What one commit does has several times within it, and not in this order.
        shown = before if before - _SKEW_MS < at < before else at
        events.append(msgspec.structs.replace(event, at=moment(shown)))
        before = shown
    return events


def _steps(
    history: QuestionHistory, here: UnderWay | None, ahead: int, shared: bool
) -> Iterator[tuple[int, TraceEvent]]:
    if history.sent_at is not None:
        again = f", again for {history.retry_of}" if history.retry_of else ""
        words = f"by session {history.sender} of {history.conversation}{again}"
        yield _event(history.sent_at, "sent", words)
    if history.enrolled_at is not None:
        yield _event(history.enrolled_at, "enrolled", f"for shard {history.shard}")
    for each in history.attempts:
        yield from _of_attempt(each, history.answer_id)
    if history.state == "leased" and history.changed_at is not None:
        place = _place(history.owner_host, history.owner_folder) if shared else ""
        words = f"attempt {history.tries}{place}"
        yield _event(history.changed_at, "claimed", words, attempt=history.tries)
    if here is not None:
        words = f"{here.worker} (pid {here.pid}) works on it"
        yield _event(
            here.since + ahead, "progress", words,
            attempt=history.tries, worker=here.worker, pid=here.pid,
        )  # fmt: skip
    if history.settled_at is not None and not _knows_its_end(history):
        words = _answer(history.answer_id) if history.state == "done" else history.last_error or ""
        yield _event(history.settled_at, state_of(history), words, attempt=history.tries or None)
    if history.retried_as is not None and history.dismissed_at is not None:
        yield _event(history.dismissed_at, "retried", f"asked again as {history.retried_as}")
    elif _was_dropped(history) and history.dismissed_at is not None:
        yield _event(history.dismissed_at, "dropped", "no longer among the dead letters")


def _of_attempt(record: AttemptRecord, answer: int | None) -> Iterator[tuple[int, TraceEvent]]:
    facts = {
        "attempt": record.attempt, "worker": record.worker, "pid": record.pid,
        "host": record.host, "home": record.home,
    }  # fmt: skip
    worker = f"{record.worker} (pid {record.pid})" if record.worker else "a worker"
    steps = (
        (record.claimed, "claimed", f"attempt {record.attempt}{_place(record.host, record.home)}"),
        (record.sent, "dispatched", f"to {worker}"),
        (record.begun, "progress", f"{record.worker} has begun"),
        (record.piece, "progress", "the first piece of the answer"),
    )
    for at, state, words in steps:
        if at is not None:
            yield _event(at, state, words, **facts)
    words = _answer(answer) if record.outcome == "answered" else record.error or ""
    if record.outcome == "released":
        words = words or "given back: the attempt does not count"
    cost = f"{words}; " if words else ""
    words = f"{cost}{_tokens(record.usage)}" if record.usage else words
    yield _event(record.stored, record.outcome, words, usage=record.usage, **facts)


def _event(at: int, state: str, words: str, **facts: object) -> tuple[int, TraceEvent]:
    return at, TraceEvent(at="", state=state, detail=words, **facts)  # type: ignore[arg-type]


def moment(ms: int) -> str:
    """Return a time as it is shown, in UTC."""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # of another program
        return f"{ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _answer(number: int | None) -> str:
    return f"by message {number}" if number else "its answer is no longer there"


def _place(host: str | None, folder: str | None) -> str:
    return f", by the home {folder} on {host}" if host and folder else ""


def _tokens(usage: Usage) -> str:
    tokens = usage.input_tokens + usage.output_tokens + usage.cached_tokens
    dollars = f", ${usage.cost_usd:,.4f}" if usage.cost_usd is not None else ""
    return f"{tokens:,} tokens{dollars}"


def _knows_its_end(history: QuestionHistory) -> bool:
    return bool(history.attempts) and history.attempts[-1].outcome in _ENDS


def _was_dropped(history: QuestionHistory) -> bool:
    """Return whether somebody has dropped a dead letter; a canary's is no one's to drop."""
    return state_of(history) == "dead" and history.dismissed_at != history.settled_at
