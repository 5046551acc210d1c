"""The health of a home: a check for each thing that a question needs, and a verdict for monitors.

Changes nothing: the canary question that `deep` sends to each shard is removed with its answer.
"""

import stat
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from autopoll.bridge.connect import connect
from autopoll.client.availability import STALE_S
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import AutopollError, ConfigError, Exit
from autopoll.home import var_check
from autopoll.home.config import Config, load
from autopoll.home.disk_samples import written_folders
from autopoll.home.home import Home
from autopoll.ops.leaked_slots import leaked_slots
from autopoll.ops.status import (
    Process,
    ShardStatus,
    Status,
    disk_room,
    status,
)
from autopoll.ops.supervisord_state import SupervisordState
from autopoll.process.heartbeat import ProcessState

CANARY_S = 15.0
EXAMINE_S = 0.1  # for damage of the database; with `deep` …
EXAMINE_DEEP_S = 10.0
REMARKS = 10  # context files that a check names
LEAVING = (SupervisordState.DOWN, SupervisordState.STOPPING)
HUNG = "is hung"  # how the check of supervisord begins then


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check and what it found."""

    name: str
    ok: bool
    detail: str


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict for monitors: ok, degraded or down."""

    verdict: str
    checks: list[Check]

    @property
    def exit_code(self) -> Exit:
        """0 ok, 1 degraded, 2 down, 3 supervisord hung."""
        if any(each.name == "supervisord" and each.detail.startswith(HUNG) for each in self.checks):
            return Exit.UNREACHABLE
        return {"ok": Exit.OK, "degraded": Exit.FAILED}.get(self.verdict, Exit.DOWN)


def health(home: Home, *, deep: bool = False) -> Health:
    """Check all that a question needs; `deep` also sends every shard a canary question."""
    checks = [_check_home(home)]
    if var_check.belongs_to_others(home):  # what we may not read looks as if it were not there
        return Health(verdict="down", checks=[*checks, _check_disk([home.var])])
    try:
        config = load(home)
        now = status(home, config)
    except ConfigError as error:
        checks += [_check_disk([home.var]), Check(name="config", ok=False, detail=str(error))]
        return Health(verdict="down", checks=checks)
    checks += _check_parts(home, config, now, EXAMINE_DEEP_S if deep else EXAMINE_S)
    down = now.supervisord in LEAVING or now.queue is None or not _can_answer(now)
    if deep and not down:
        # A canary to a paused shard would wait until the end of the pause.
        canaries = _canaries(home, config, [each.name for each in now.shards if not each.paused])
        checks += canaries
        down = bool(canaries) and not any(check.ok for check in canaries)
    if down:
        return Health(verdict="down", checks=checks)
    return Health(verdict="ok" if all(check.ok for check in checks) else "degraded", checks=checks)


def _check_parts(home: Home, config: Config, now: Status, examine_s: float) -> list[Check]:
    """Return the checks of a home whose settings can be read."""
    return [
        _check_disk(written_folders(home, config)),
        Check(name="config", ok=True, detail=str(home.config)),
        _check_supervisord(now),
        _check_database(home, config, now, examine_s),
        *map(check_process, now.processes),
        *map(_check_shard, now.shards),
        *check_slots(home, config, now),
        *(_check_context(shard) for shard in now.shards if shard.context_remarks.total),
    ]


def _can_answer(now: Status) -> bool:
    """Tell whether a shard answers, or will by itself."""
    poller = next(process for process in now.processes if process.name == "poller")
    able = poller.pid is not None and poller.state != ProcessState.HELD
    return able and any(shard.ready or shard.paused for shard in now.shards)


def _check_home(home: Home) -> Check:
    try:
        facts = home.var.stat()
    except OSError as error:
        return Check(name="home", ok=False, detail=f"{home.var}: {error.strerror}")
    if complaint := var_check.complaint_about(home):
        return Check(name="home", ok=False, detail="; ".join(complaint))
    if facts.st_mode & 0o077:
        mode = stat.S_IMODE(facts.st_mode)
        detail = f"{home.var} is open to others (mode {mode:04o}); run: chmod 700 '{home.var}'"
        return Check(name="home", ok=False, detail=detail)
    return Check(name="home", ok=True, detail=str(home.root))


def _check_supervisord(now: Status) -> Check:
    why = "; ".join(now.problems)
    detail = {
        SupervisordState.HUNG: f"{HUNG}: {why}",
        SupervisordState.STARTING: f"is starting: {why}",
        SupervisordState.STOPPING: f"is going down: {why}",
        SupervisordState.DOWN: "is not running; start it with: autopoll up",
        SupervisordState.RUNNING: "is running",
    }[SupervisordState(now.supervisord)]
    ok = now.supervisord == SupervisordState.RUNNING
    return Check(name="supervisord", ok=ok, detail=detail)


def _check_disk(folders: list[Path]) -> Check:
    ok, detail = disk_room(folders)
    return Check(name="disk", ok=ok, detail=detail)


def _check_database(home: Home, config: Config, now: Status, seconds: float) -> Check:
    """Check that the database can be read and is whole."""
    try:
        with closing(connect(home, config, read_only=True)) as bridge:
            complete = bridge.examine(seconds)
    except AutopollError as error:
        return Check(name="database", ok=False, detail=f"{error.what}; {error.mend}".strip("; "))
    if now.queue is None:
        return Check(name="database", ok=False, detail="; ".join(now.problems) or "cannot be read")
    queue = ", ".join(f"{count} {state}" for state, count in now.queue.items())
    if seconds > EXAMINE_S and not complete:
        queue += f"; not all of it was read within {seconds:.0f} s"
    return Check(name="database", ok=True, detail=queue)


def check_process(process: Process) -> Check:
    """Return whether a process is able to work, and what it says."""
    detail = process.state + (f": {process.note}" if process.note else "")
    stale = process.loop_age_s is not None and process.loop_age_s > STALE_S
    if stale:
        detail += f", its loop has stood still for {process.loop_age_s:.0f} s"
    return Check(name=process.name, ok=process.ready and not stale, detail=detail)


def _check_shard(shard: ShardStatus) -> Check:
    name = f"shard {shard.name}"
    if shard.paused:
        return Check(name=name, ok=False, detail=f"paused: {shard.paused}")
    ready = f"{shard.ready} of {shard.instances} ready"
    return Check(name=name, ok=shard.ready > 0, detail=ready)


def check_slots(home: Home, config: Config, now: Status) -> list[Check]:
    """Return a failed check for each shard that has leaked slots."""
    if now.queue is None or not _can_answer(now):
        return []
    bridge = connect(home, config, read_only=True)
    try:
        found = leaked_slots(home, config, bridge)
    finally:
        bridge.close()
    return [Check(name=f"slots {shard}", ok=False, detail=words) for shard, words in found.items()]


def _check_context(shard: ShardStatus) -> Check:
    """Return which context files are not read as they should; one that fails is degraded."""
    remarks = shard.context_remarks
    detail = "; ".join(remarks.lines(REMARKS))
    return Check(name=f"context {shard.name}", ok=not remarks.failed, detail=detail)


def _canaries(home: Home, config: Config, shards: list[str]) -> list[Check]:
    """Send a canary question to these shards through the whole chain."""
    try:
        bridge = connect(home, config)
    except AutopollError as error:
        return [Check(name="canary", ok=False, detail=error.what)]
    with closing(bridge), PollerConnection(home) as connection:
        client = Client(home, config, bridge)
        return [_canary(client, connection, shard) for shard in shards]


def _canary(client: Client, connection: PollerConnection, shard: str) -> Check:
    name = f"canary {shard}"
    began = time.monotonic()
    ids: list[int] = []
    try:
        ids = client.ask(["Are you there?"], shard, connection=connection, canary=True).ids
        [result] = client.wait(ids, connection, timeout=CANARY_S)
    except AutopollError as error:
        _remove(client, ids)
        return Check(name=name, ok=False, detail=error.what)
    took = (time.monotonic() - began) * 1000
    _remove(client, ids)
    if result.status == "error":
        return Check(name=name, ok=False, detail=result.answer or "error")
    return Check(name=name, ok=True, detail=f"answered in {took:.1f} ms")


def _remove(client: Client, ids: Sequence[int]) -> None:
    """Leave nothing of a canary behind; what stays of one that is answered, the poller removes."""
    bridge = client.bridge
    with suppress(AutopollError):
        if not bridge.retention.remove(ids):
            bridge.deliveries.cancel(ids, "health waits no longer for it")
            bridge.retention.remove(ids)
