"""How a home is: what runs, what waits, and whether a question would be answered.

Looking changes nothing and never hangs: heartbeats and the store are read, and supervisord is given
a second to answer.
"""

import os
import stat
import time
from contextlib import closing
from pathlib import Path

import msgspec

from autopoll.backends.context.remarks import Remarks, kept
from autopoll.bridge.connect import bridge_file, connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Spent
from autopoll.client.availability import PATIENCE_S, STALE_S, last_error
from autopoll.client.client import Client
from autopoll.clock import utc_day, wall_ms
from autopoll.errors import AutopollError, ConfigError, Exit, SupervisorError
from autopoll.home import disk_space, trust
from autopoll.home.config import Config, load
from autopoll.home.home import Home, socket_path
from autopoll.ops import copied
from autopoll.ops.phase import Phase, told_by
from autopoll.ops.stuck import stuck
from autopoll.process import pause
from autopoll.process.heartbeat import Beat, ProcessState, is_alive, read_all
from autopoll.process.proc_stat import read_stat
from autopoll.process.supervisor_rpc import Program, Supervisor
from autopoll.process.waiter import Waiter

CANARY_S = 15.0
LOOK_S = 0.1  # for damage of the database; with `deep` …
DEEP_S = 10.0
REMARKS = 10  # files that a check names
READY = (ProcessState.IDLE, ProcessState.BUSY)
HUNG = "is hung"  # how a health check on supervisord says so


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process that there is or should be."""

    name: str
    role: str
    state: str  # the beat's words, or: suspended backoff fatal exited stopped down
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    fds: int | None = None
    note: str = ""
    loop_age_s: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it is able to work."""
        return self.state in READY


class ShardStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One shard; `paused` says why it answers nothing on purpose."""

    name: str
    backend: str
    instances: int
    ready: int
    in_flight: int
    paused: str | None
    usage_today: Spent  # since the last UTC midnight
    context_remarks: Remarks  # on files that are passed over, or read in an unusual way


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From enrolment to answer, over the newest answers; None before the first."""

    p50: int | None
    p99: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that `autopoll status` shows; `problems` says what could not be looked at."""

    ready: bool
    supervisord: str  # running | starting | stopping | down | hung
    processes: list[Process]
    shards: list[ShardStatus]
    queue: dict[str, int] | None
    latency_ms: Latency
    problems: list[str]

    @property
    def exit_code(self) -> Exit:
        """0 ready, 1 degraded or just starting, 2 down or going down, 3 supervisord hung."""
        if self.supervisord == Phase.HUNG:
            return Exit.UNREACHABLE
        if self.supervisord in (Phase.DOWN, Phase.STOPPING):
            return Exit.DOWN
        return Exit.OK if self.ready else Exit.FAILED


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

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


def status(home: Home, config: Config) -> Status:
    """Look at everything once."""
    copied.refuse(home)
    problems: list[str] = []
    programs: dict[str, Program] = {}
    supervisord = Phase.RUNNING
    try:
        programs = {
            program.name: program
            for program in Supervisor(socket_path(home), PATIENCE_S).processes()
        }
    except SupervisorError as error:
        supervisord, why = told_by(error, home)
        problems += [why] if why else []
    processes = _processes(home, config, programs)
    queue, in_flight, latency = None, {}, Latency(p50=None, p99=None)
    spent: dict[str, Spent] = {}
    is_readable = True
    try:
        bridge = connect(home, config, read_only=True)
        try:
            queue, in_flight = bridge.overview.counts(), bridge.overview.in_flight()
            latency, spent = _latency(bridge), bridge.overview.spent(utc_day(wall_ms()))
        finally:
            bridge.close()
    except AutopollError as error:
        is_readable = False
        problems.append(error.what)
    by_name = {process.name: process for process in processes}
    shards = [
        _shard(home, config, shard, by_name, in_flight.get(shard, 0), spent.get(shard, Spent()))
        for shard in config.shards
    ]
    disk = _check_disk(_written(home, config))
    ready = (
        supervisord is Phase.RUNNING
        and is_readable
        and disk.ok
        and by_name["poller"].ready
        and (not config.gateway.enabled or by_name["gateway"].ready)
        and all(shard.ready and not shard.paused for shard in shards)
    )
    if not disk.ok:
        problems.append(disk.detail)
    return Status(
        ready=ready,
        supervisord=supervisord.value,
        processes=processes,
        shards=shards,
        queue=queue,
        latency_ms=latency,
        problems=problems,
    )


def health(home: Home, *, deep: bool = False) -> Health:
    """Go through what a question needs; `deep` also asks every shard for a sign of life."""
    checks = [_check_home(home)]
    if trust.belongs_to_others(home):  # what we may not read looks as if it were not there
        return Health(verdict="down", checks=[*checks, _check_disk([home.var])])
    try:
        config = load(home)
        now = status(home, config)
    except ConfigError as error:
        checks += [_check_disk([home.var]), Check(name="config", ok=False, detail=str(error))]
        return Health(verdict="down", checks=checks)
    checks.append(_check_disk(_written(home, config)))
    checks.append(Check(name="config", ok=True, detail=str(home.config)))
    checks.append(
        Check(
            name="supervisord", ok=now.supervisord == Phase.RUNNING, detail=_supervisord_words(now)
        )
    )
    checks.append(_check_database(home, config, now, DEEP_S if deep else LOOK_S))
    checks += [_check_process(process) for process in now.processes]
    checks += [_check_shard(shard) for shard in now.shards]
    checks += _check_slots(home, config, now)
    checks += [_check_context(shard) for shard in now.shards if shard.context_remarks.total]
    leaving = now.supervisord in (Phase.DOWN, Phase.STOPPING)
    down = leaving or now.queue is None or not _can_answer(now)
    if deep and not down:
        # What is paused would let its canary wait until the end of the pause.
        canaries = _canaries(home, config, [each.name for each in now.shards if not each.paused])
        checks += canaries
        down = bool(canaries) and not any(check.ok for check in canaries)
    if down:
        return Health(verdict="down", checks=checks)
    return Health(verdict="ok" if all(check.ok for check in checks) else "degraded", checks=checks)


def _processes(home: Home, config: Config, programs: dict[str, Program]) -> list[Process]:
    beats = {beat.name: beat for beat in read_all(home.beats)}
    expected = {"poller": "poller", "watchdog": "watchdog"}
    expected |= dict.fromkeys(config.instances(), "worker")
    if config.gateway.enabled:
        expected["gateway"] = "gateway"
    expected |= {name: beat.role for name, beat in beats.items() if is_alive(beat)}
    return [
        _process(home, name, role, beats.get(name), programs.get(name))
        for name, role in expected.items()
    ]


def _process(
    home: Home, name: str, role: str, beat: Beat | None, program: Program | None
) -> Process:
    """Return what is known of a process: by itself while it lives, else by supervisord."""
    restarts = max(0, beat.starts - 1) if beat else 0
    reading = read_stat(beat.pid) if beat and is_alive(beat) else None
    if beat is None or reading is None:
        words = program.state.lower() if program else "down"
        state = "starting" if words in ("running", "starting") else words
        note = _why_down(home, program) if program else ""
        return Process(name=name, role=role, state=state, restarts=restarts, note=note)
    now = time.monotonic()
    return Process(
        name=name,
        role=role,
        state="suspended" if reading.stopped else beat.state.value,
        pid=beat.pid,
        uptime_s=round(_since_boot() - reading.started / os.sysconf("SC_CLK_TCK"), 1),
        restarts=restarts,
        rss_bytes=reading.rss_bytes,
        fds=_count_fds(beat.pid),
        note=beat.note,
        loop_age_s=round(now - beat.loop_beat, 1),
    )


def _why_down(home: Home, program: Program) -> str:
    """Return why a program does not run that nobody has stopped."""
    if program.state in ("BACKOFF", "FATAL", "EXITED"):
        return last_error(home, program.name)
    return program.spawnerr


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _count_fds(pid: int) -> int | None:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - counts without making paths
    except OSError:  # gone meanwhile, or another user's
        return None


def _shard(
    home: Home,
    config: Config,
    name: str,
    processes: dict[str, Process],
    in_flight: int,
    spent: Spent,
) -> ShardStatus:
    mine = [processes[worker] for worker, shard in config.instances().items() if shard == name]
    ready = sum(process.ready for process in mine)
    held = [process.note or "held" for process in mine if process.state == ProcessState.HELD]
    paused = pause.read(home, name)
    return ShardStatus(
        name=name,
        backend=config.shards[name].backend,
        instances=len(mine),
        ready=ready,
        in_flight=in_flight,
        paused=paused.words if paused else held[0] if held and not ready else None,
        usage_today=spent,
        context_remarks=max(
            (kept(home.remarks / process.name) for process in mine), key=lambda each: each.total
        ),
    )


def _latency(bridge: Bridge) -> Latency:
    times = sorted(bridge.overview.latencies_ms())
    if not times:
        return Latency(p50=None, p99=None)
    return Latency(
        p50=times[len(times) // 2], p99=times[min(len(times) - 1, len(times) * 99 // 100)]
    )


def _can_answer(now: Status) -> bool:
    """Tell whether somebody works, or will without anybody's help."""
    poller = next(process for process in now.processes if process.name == "poller")
    able = poller.pid is not None and poller.state != ProcessState.HELD
    return able and any(shard.ready or shard.paused for shard in now.shards)


def _check_home(home: Home) -> Check:
    try:
        facts = home.var.stat()
    except OSError as error:
        return Check(name="home", ok=False, detail=f"{home.var}: {error.strerror}")
    if complaint := trust.complaint_about(home):
        return Check(name="home", ok=False, detail="; ".join(complaint))
    if facts.st_mode & 0o077:
        mode = stat.S_IMODE(facts.st_mode)
        detail = f"{home.var} is open to others (mode {mode:04o}); run: chmod 700 '{home.var}'"
        return Check(name="home", ok=False, detail=detail)
    return Check(name="home", ok=True, detail=str(home.root))


def _written(home: Home, config: Config) -> list[Path]:
    """Return the folders that are written into."""
    return list(dict.fromkeys((home.var, bridge_file(config.bridge.url, home.root).parent)))


def _check_disk(folders: list[Path]) -> Check:
    there = [folder for folder in folders if folder.is_dir()]
    short = [found for folder in there if (found := disk_space.shortage(folder))]
    detail = "; ".join(short or map(disk_space.free, there)) or f"there is no {folders[0]}"
    return Check(name="disk", ok=bool(there) and not short, detail=detail)


def _check_database(home: Home, config: Config, now: Status, seconds: float) -> Check:
    """Look whether the database can be read and is whole."""
    try:
        with closing(connect(home, config, read_only=True)) as bridge:
            complete = bridge.examine(seconds)
    except AutopollError as error:
        return Check(name="database", ok=False, detail=f"{error.what}; {error.mend}".strip("; "))
    if now.queue is None:
        return Check(name="database", ok=False, detail="; ".join(now.problems) or "cannot be read")
    queue = ", ".join(f"{count} {state}" for state, count in now.queue.items())
    if seconds > LOOK_S and not complete:
        queue += f"; not all of it was read within {seconds:.0f} s"
    return Check(name="database", ok=True, detail=queue)


def _check_process(process: Process) -> Check:
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


def _check_slots(home: Home, config: Config, now: Status) -> list[Check]:
    """Tell of shards that have questions in flight for longer than they may, and idle workers."""
    if now.queue is None or not _can_answer(now):
        return []
    bridge = connect(home, config, read_only=True)
    try:
        found = stuck(home, config, bridge)
    finally:
        bridge.close()
    return [Check(name=f"slots {shard}", ok=False, detail=words) for shard, words in found.items()]


def _check_context(shard: ShardStatus) -> Check:
    """Tell of the context files that are not read as they should; one that fails is degraded."""
    remarks = shard.context_remarks
    detail = "; ".join(remarks.lines(REMARKS))
    return Check(name=f"context {shard.name}", ok=not remarks.failed, detail=detail)


def _supervisord_words(now: Status) -> str:
    why = "; ".join(now.problems)
    match now.supervisord:
        case Phase.HUNG:
            return f"{HUNG}: {why}"
        case Phase.STARTING:
            return f"is starting: {why}"
        case Phase.STOPPING:
            return f"is going down: {why}"
        case Phase.DOWN:
            return "is not running; start it with: autopoll up"
        case _:
            return "is running"


def _canaries(home: Home, config: Config, shards: list[str]) -> list[Check]:
    """Send a sign-of-life question to these shards through the whole chain."""
    checks: list[Check] = []
    try:
        bridge = connect(home, config)
    except AutopollError as error:
        return [Check(name="canary", ok=False, detail=error.what)]
    try:
        client = Client(home, config, bridge)
        with Waiter(home) as waiter:
            for shard in shards:
                checks.append(_canary(client, waiter, shard))
    finally:
        bridge.close()
    return checks


def _canary(client: Client, waiter: Waiter, shard: str) -> Check:
    name = f"canary {shard}"
    began = time.monotonic()
    try:
        asked = client.ask(["Are you there?"], shard, waiter=waiter, canary=True)
        [result] = client.wait(asked.ids, waiter, timeout=CANARY_S)
    except AutopollError as error:
        return Check(name=name, ok=False, detail=error.what)
    took = (time.monotonic() - began) * 1000
    if result.status == "error":
        return Check(name=name, ok=False, detail=result.answer or "error")
    return Check(name=name, ok=True, detail=f"answered in {took:.1f} ms")
