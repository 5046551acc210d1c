"""The shards: whether each is answered for, and what its instances cannot read or are refused."""

from collections.abc import Iterator

from autopoll.clock import wall_ms
from autopoll.home.path_safety import quoted
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject
from autopoll.ops.health import check_slots
from autopoll.ops.status import ShardStatus
from autopoll.ops.supervisord_state import SupervisordState
from autopoll.process import manual_pause, shard_pause

_REMARKS = 5  # context files that are named
_OLD_S = 60.0  # for which a question may wait before it is said


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at each shard, at what waits for it, and at routes that lead nowhere."""
    now = subject.status
    if now is None or subject.config is None:
        return
    is_up = now.supervisord == SupervisordState.RUNNING
    for shard in now.shards:
        if is_up:
            yield _of(subject, shard)
        if shard.context_remarks.total:
            files = "; ".join(shard.context_remarks.lines(_REMARKS))
            mend = f"Make them readable, or narrow its context: autopoll shards test {shard.name}"
            yield degraded(f"context {shard.name}", files, mend)
    for slots in check_slots(subject.home, subject.config, now):
        yield degraded(slots.name, slots.detail)
    able = {shard.name for shard in now.shards if shard.ready and not shard.paused}
    for each in subject.bridge.backlog:
        age = (wall_ms() - each.oldest_at) / 1000
        if each.shard not in able and age > _OLD_S:
            what = f"{each.count} {each.state}, the oldest for {age:.0f} s, and nobody answers"
            yield failed(f"backlog {each.shard}", what, f"See: autopoll queue --shard {each.shard}")
    for conversation, session, shard_name in subject.bridge.lost_routes:
        yield degraded(
            "route",
            f"session {session} of {conversation} is to be answered by shard {shard_name}, which"
            " nobody has",
            f"Let another answer: autopoll serve {conversation} --session {session} --shard main;"
            f" or end it: autopoll serve --stop {conversation} --session {session}",
        )


def _of(subject: Subject, shard: ShardStatus) -> DoctorFinding:
    name = f"shard {shard.name}"
    if manual_pause.read(subject.home, shard.name) is not None:
        return degraded(name, f"paused: {shard.paused}", f"End it: autopoll resume {shard.name}")
    if pause := shard_pause.read(subject.home, shard.name):
        renew = "Renew the key, or log in again; it is tried again by itself"
        mend = renew if pause.cause == "credentials" else "It ends by itself"
        return degraded(name, f"paused: {pause.words}", mend)
    if shard.paused:
        mend = f"Mend what its worker says: autopoll logs; autopoll shards test {shard.name}"
        return failed(name, f"none of its instances works: {shard.paused}", mend)
    if not shard.ready:
        mend = f"Try an instance: autopoll shards test {quoted([shard.name])}"
        return failed(name, f"none of its {shard.instances} instances is ready", mend)
    return good(name, f"{shard.ready} of {shard.instances} ready, {shard.in_flight} in flight")
