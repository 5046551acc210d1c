"""Why a question has no answer yet, in words, and what to do about it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from autopoll.bridge.question_history import QuestionHistory
from autopoll.bridge.records import AnsweringHome, Message
from autopoll.client.availability import POLLER, obstacle
from autopoll.home.config import Config
from autopoll.home.home import Home, shard_of
from autopoll.home.identity import known_identity
from autopoll.ops.under_way import UnderWay, under_way
from autopoll.process import heartbeat, shard_pause
from autopoll.process.heartbeat import READY

_FOREVER_MS = 10 * 365 * 86_400_000  # nothing is put off for as long
_NAMED = 3  # of several questions


class Asked(NamedTuple):
    """What the bridge knows of a message.

    `route` is the shard that answers the session it was sent to, and `homes` share the bridge; of
    one that has its answer they are not looked up.
    """

    history: QuestionHistory
    message: Message
    route: str | None = None
    homes: Sequence[AnsweringHome] = ()


def waits_for(home: Home, config: Config, asked: Asked, here: UnderWay | None) -> list[str]:
    """Return what a question waits for; nothing for one that is answered, or is no question."""
    history = asked.history
    match history.state:
        case "done" | "dead":
            return []
        case "sent" if history.answer_to is not None:
            return []
        case "leased":
            return [_under_way(home, history, here)]
        case "sent":
            return [*_before_enrolment(asked)] or [*_in_the_way(home, config, asked, asked.route)]
    return [*_before_claim(home, config, asked)]


def _before_enrolment(asked: Asked) -> Iterator[str]:
    """Yield why a message is not even enrolled."""
    history = asked.history
    if asked.route is None:
        yield (
            f"no shard answers session {history.session} of this conversation: it waits for a "
            f"reader. To have one answer: autopoll serve {history.conversation} --session "
            f"{history.session} --shard NAME"
        )
    elif asked.message.read:
        yield "it is marked as read, so nobody answers it"


def _before_claim(home: Home, config: Config, asked: Asked) -> Iterator[str]:
    """Yield what an enrolled question waits for."""
    history = asked.history
    if history.before:
        named = ", ".join(map(str, history.before[:_NAMED]))
        more = ", …" if len(history.before) > _NAMED else ""
        yield f"it comes after {named}{more} of the same conversation, which are not answered yet"
    left = history.not_before - history.now
    if left >= _FOREVER_MS:
        yield "it was cancelled, and is answered so in its turn"
        return
    if history.state == "ready" and left > 0:
        until = f"{datetime.fromtimestamp(history.not_before // 1000, UTC):%H:%M:%S}Z"
        error = f": {history.last_error}" if history.last_error else ""
        yield f"it is tried again at {until}, in {left / 1000:.1f} s{error}"
    found = [*_in_the_way(home, config, asked, history.shard)]
    yield from found
    if not found and not history.before and left <= 0:
        yield "nothing is in its way: it is next"


def _in_the_way(home: Home, config: Config, asked: Asked, shard: str | None) -> Iterator[str]:
    """Yield what keeps a shard from taking up a question."""
    if shard not in config.shards:
        yield from _elsewhere(home, asked, shard)
        return
    if pause := shard_pause.current(home, shard):
        yield f"shard {shard} is paused: {pause.words}"
    beat = heartbeat.read(home.beats / POLLER)
    if found := obstacle(home, config, shard):
        yield f"{found.what}. {found.mend}" if found.mend else found.what
    elif beat is None or not heartbeat.is_alive(beat):
        yield "this home is down. Start it: autopoll up"
    elif busy := _busy(home, config, shard):
        yield busy


def _busy(home: Home, config: Config, shard: str) -> str:
    """Return what the workers of a shard do where none of them is free."""
    names = {name for name, each in config.instances().items() if each == shard}
    beats = [each for each in heartbeat.read_all(home.beats) if each.name in names]
    ready = [each for each in beats if each.state in READY and heartbeat.is_alive(each)]
    if not ready:
        return f"no worker of shard {shard} is ready"
    working = [each for each in under_way(home).values() if shard_of(each.worker) == shard]
    if {each.name for each in ready} - {each.worker for each in working}:
        return ""
    oldest = min(working, key=lambda each: each.since)
    return (
        f"the workers of shard {shard} are busy: {oldest.worker} with question {oldest.question}"
        + (f" and {len(working) - 1} more" if len(working) > 1 else "")
    )


def _elsewhere(home: Home, asked: Asked, shard: str | None) -> Iterator[str]:
    """Yield which other homes serve a shard that this one does not have."""
    mine = known_identity(home)
    serving = [each for each in asked.homes if shard in each.shards and each.home != mine]
    for each in serving:
        state = "alive" if each.alive else f"away for {each.beat_age_ms / 1000:.0f} s"
        yield f"the home {each.folder} on {each.host} answers for shard {shard}; it is {state}"
    if not serving:
        yield f"no home has a shard {shard}. Add it: autopoll shards add {shard}"


def _under_way(home: Home, history: QuestionHistory, here: UnderWay | None) -> str:
    if here is not None:
        since = max(0, history.now - (history.changed_at or history.now))
        return f"{here.worker} (pid {here.pid}) works on it; claimed {since / 1000:.1f} s ago"
    folder = history.owner_folder
    if folder is not None and folder != str(home.root):
        return f"the home {folder} on {history.owner_host} has it; trace it there for its worker"
    beat = heartbeat.read(home.beats / POLLER)
    if beat is None or not heartbeat.is_alive(beat):
        return "its poller is gone; it is claimed again once a poller runs, or its lease ends"
    return "it is on its way to a worker, or waits within one that is warming up"
