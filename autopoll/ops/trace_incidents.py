"""What happened to the processes of a home while a question was on its way."""

from collections.abc import Sequence
from datetime import datetime

from autopoll.bridge.question_history import QuestionHistory
from autopoll.home.home import Home, shard_of
from autopoll.ops.trace_events import TraceEvent, first_known, moment
from autopoll.ops.under_way import UnderWay
from autopoll.process import incident_log
from autopoll.process.incident_log import Incident

_LATE_MS = 60_000  # a death may be found that long after its question went on


def incidents_of(
    home: Home, history: QuestionHistory, here: UnderWay | None, until: int
) -> list[Incident]:
    """Return what happened meanwhile to this home's poller, watchdog and workers of the shard.

    The death of a worker that an attempt has failed with is part of it, also when it was found
    later.
    """
    begin = first_known(history)
    if begin is None or history.enrolled_at is None:
        return []
    unanswered = [each for each in history.attempts if each.outcome != "answered"]
    mine = {(each.worker, each.pid) for each in unanswered if each.worker}
    if here is not None:
        mine.add((here.worker, here.pid))
    found = []
    for each in incident_log.read(home.incidents):
        at = _ms(each.at)
        if at is None or at < begin:
            continue
        its_own = (each.process, each.pid) in mine
        if (its_own and at <= until + _LATE_MS) or (at <= until and _concerns(each, history.shard)):
            found.append(each)
    return found


def _concerns(incident: Incident, shard: str | None) -> bool:
    is_worker = incident.process == "worker" or incident.process.startswith("worker-")
    return shard_of(incident.process) == shard if is_worker else incident.process != "gateway"


def merged(events: list[TraceEvent], incidents: Sequence[Incident], ahead: int) -> list[TraceEvent]:
    """Return the events in their order, with each incident before what came later.

    The question's own are not sorted: a clock that was set back would mix them up.
    """
    merged = list(events)
    for incident in incidents:
        at = moment((_ms(incident.at) or 0) + ahead)
        ending = f"; {incident.ending}" if incident.is_over else ""
        words = f"{incident.process}: {incident.verdict}, {incident.action}{ending}"
        event = TraceEvent(
            at=at,
            state="incident",
            detail=f"{words}: {incident.evidence}" if incident.evidence else words,
            pid=incident.pid or None,
            host=incident.host or None,
            process=incident.process,
            verdict=incident.verdict,
        )
        place = next((n for n, each in enumerate(merged) if each.at > at), len(merged))
        merged.insert(place, event)
    return merged


def _ms(text: str) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
