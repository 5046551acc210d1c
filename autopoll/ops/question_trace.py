"""How one question came to its answer, or how far it has come: what `autopoll trace` shows.

The bridge knows its states and its attempts, the incident log of this home what happened meanwhile,
and the heartbeats who is working on it. What nobody knows is said in `notes`.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from autopoll.bridge.question_history import QuestionHistory
from autopoll.clock import wall_ms
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.message import read_content
from autopoll.ops.question_waits import Asked, waits_for
from autopoll.ops.trace_events import CANCELLED, TraceEvent, events_of, first_known, state_of
from autopoll.ops.trace_incidents import incidents_of, merged
from autopoll.ops.under_way import under_way
from autopoll.request import Usage

if TYPE_CHECKING:
    from autopoll.bridge.protocols import Bridge

_INCIDENTS = 50  # of one question
_TEXT = 200  # characters


class Hop(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long one step of the way took."""

    hop: str
    ms: int
    attempt: int | None = None


class QuestionTrace(msgspec.Struct, frozen=True, kw_only=True):
    """One message: `state` is how it stands now, and `waits` why it is not answered yet.

    `question` is its first words, `total_ms` goes on until it is settled, `usage` is of all
    attempts that are known, `clock` says by whose clock the times are, and `answer_to` is the
    question that this message answers, if it is an answer itself.
    """

    id: int
    state: str
    question: str
    conversation: str
    shard: str | None
    attempts: int
    total_ms: int | None
    events: list[TraceEvent]
    hops: list[Hop]
    waits: list[str]
    notes: list[str]
    usage: Usage | None
    answer_id: int | None
    answer_to: int | None
    retry_of: int | None
    retried_as: int | None
    clock: str


def trace(home: Home, config: Config, bridge: "Bridge", number: int) -> QuestionTrace:
    """Return the trace of a message, changing nothing; raise NotFound."""
    return compose(home, config, ask_bridge(bridge, number))


def ask_bridge(bridge: "Bridge", number: int) -> Asked:
    """Return what the bridge knows of a message; raise NotFound."""
    history, message = bridge.overview.history(number), bridge.messages.message(number)
    if history.state in ("done", "dead"):
        return Asked(history, message)
    return Asked(
        history,
        message,
        route=bridge.conversations.shard_of(history.conversation, history.session),
        homes=bridge.overview.homes(),
    )


def compose(home: Home, config: Config, asked: Asked) -> QuestionTrace:
    """Return the trace of a message of which the bridge has been asked already."""
    history = asked.history
    is_server = config.bridge.url.is_server
    # Heartbeats and incidents go by the clock of this host.
    ahead = history.now - wall_ms() if is_server else 0
    here = under_way(home).get(history.message_id) if history.state == "leased" else None
    events = events_of(history, here, ahead=ahead, shared=is_server)
    ended = history.settled_at or history.now
    found = incidents_of(home, history, here, ended - ahead)
    usages = [each.usage for each in history.attempts if each.usage]
    return QuestionTrace(
        id=history.message_id,
        state=state_of(history),
        question=" ".join(read_content(asked.message.text).text[: 4 * _TEXT].split())[:_TEXT],
        conversation=history.conversation,
        shard=history.shard or asked.route,
        attempts=history.tries,
        total_ms=_since(first_known(history), ended if history.enrolled_at else None),
        events=merged(events, found[-_INCIDENTS:], ahead),
        hops=list(_hops(history)),
        waits=waits_for(home, config, asked, here),
        notes=list(_notes(history, (os.uname().nodename, str(home.root)), len(found))),
        usage=_sum(usages) if usages else None,
        answer_id=history.answer_id,
        answer_to=history.answer_to,
        retry_of=history.retry_of,
        retried_as=history.retried_as,
        clock="the PostgreSQL server" if is_server else "this host",
    )


def _sum(usages: Sequence[Usage]) -> Usage:
    dollars = [each.cost_usd for each in usages if each.cost_usd is not None]
    return Usage(
        input_tokens=sum(each.input_tokens for each in usages),
        output_tokens=sum(each.output_tokens for each in usages),
        cached_tokens=sum(each.cached_tokens for each in usages),
        cost_usd=sum(dollars) if dollars else None,
    )


def _hops(history: QuestionHistory) -> Iterator[Hop]:
    """Yield how long each step took whose both ends are known."""
    if (ms := _since(history.sent_at, history.enrolled_at)) is not None:
        yield Hop(hop="enrol", ms=ms)
    before, hop = history.enrolled_at, "queue"
    for each in history.attempts:
        steps = (
            (hop, before, each.claimed),
            ("dispatch", each.claimed, each.sent),
            ("begin", each.sent, each.begun),
            ("first piece", each.begun, each.piece),
            ("work", each.begun, each.ended),
            ("store", each.ended, each.stored),
        )
        for name, since, until in steps:
            if (ms := _since(since, until)) is not None:
                yield Hop(hop=name, ms=ms, attempt=each.attempt)
        before, hop = each.stored, "wait"
    if history.state == "leased" and (ms := _since(before, history.changed_at)) is not None:
        yield Hop(hop=hop, ms=ms, attempt=history.tries)


def _since(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else max(0, end - begin)


def _notes(history: QuestionHistory, mine: tuple[str, str], incidents: int) -> Iterator[str]:
    if history.answer_to is not None:
        yield f"this is the answer to question {history.answer_to}: trace that"
    if history.sent_at is None:
        yield "when it was sent is not known: its time cannot be read"
    known = {each.attempt for each in history.attempts if each.outcome != "released"}
    # What is under way, or was when it was cancelled, has no record.
    under = {history.tries} if state_of(history) in ("leased", CANCELLED) else set()
    if missing := set(range(1, history.tries + 1)) - known - under:
        yield (
            f"of {len(missing)} of its {history.tries} attempts nothing is known: an earlier "
            "version made them, or there were too many to keep"
        )
    if any(each.worker is None for each in history.attempts):
        yield "who made an attempt is not known where its poller was gone before its end"
    homes = {(each.host, each.home) for each in history.attempts if each.home} - {mine}
    for host, folder in sorted(homes):
        yield f"incidents at the home {folder} on {host} are in its own log"
    if incidents > _INCIDENTS:
        yield f"{incidents - _INCIDENTS} earlier incidents are left out; see: autopoll incidents"


def for_asker(found: QuestionTrace) -> QuestionTrace:
    """Return what whoever asked may know: states and times, but nothing of the home's inside."""
    inside = ("claimed", "dispatched", "progress")
    return msgspec.structs.replace(
        found,
        events=[
            TraceEvent(
                at=each.at,
                state=each.state,
                detail="" if each.state in inside else each.detail,
                attempt=each.attempt,
                usage=each.usage,
            )
            for each in found.events
            if each.state != "incident"
        ],
        waits=[],
        notes=[],
    )
