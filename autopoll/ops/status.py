"""The status of a home: its processes, shards and queue, and whether all of it is ready.

Looking changes nothing and never hangs: heartbeats and the bridge are read, and supervisord has a
second to answer.
"""

import os
import time
from contextlib import closing
from pathlib import Path

import msgspec

from autopoll import __version__
from autopoll.backends.context.remarks import Remarks, kept
from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import AnsweringHome, Spent
from autopoll.client.availability import PATIENCE_S, last_error
from autopoll.clock import utc_day, wall_ms
from autopoll.errors import AutopollError, Exit, SupervisorError
from autopoll.home import disk_space
from autopoll.home.config import Config
from autopoll.home.disk_samples import written_folders
from autopoll.home.home import Home, socket_path
from autopoll.ops.copied_home import refuse_copy
from autopoll.ops.disk_forecast import DiskForecast, disk_forecast
from autopoll.ops.last_change import last_change, supervisord_version
from autopoll.ops.supervisord_state import SupervisordState, state_from
from autopoll.process import shard_pause
from autopoll.process.heartbeat import READY, Beat, ProcessState, is_alive, read_all
from autopoll.process.proc_stat import read_stat
from autopoll.process.supervisor_rpc import Program, Supervisor


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process that there is or should be."""

    name: str
    role: str
    state: str  # as in the heartbeat, or: suspended backoff fatal exited stopped down
    pid: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    rss_bytes: int | None = None
    fds: int | None = None
    note: str = ""
    loop_age_s: float | None = None
    version: str | None = None  # of the code that it runs, where it says so

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
    version: str  # that is installed
    supervisord_version: str | None
    last_change: str | None  # who started or stopped the home, and when
    disks: list[DiskForecast]
    hosts: list[AnsweringHome]  # that share the bridge, this home included once it has answered

    @property
    def headline(self) -> str:
        """Whether all is ready; if not, how supervisord is, and which shards are paused."""
        if self.ready:
            return "ready"
        paused = ", ".join(shard.name for shard in self.shards if shard.paused)
        held = f"; paused: {paused}" if paused else ""
        return f"not ready (supervisord {self.supervisord}{held})"

    @property
    def exit_code(self) -> Exit:
        """0 ready, 1 degraded or just starting, 2 down or going down, 3 supervisord hung."""
        if self.supervisord == SupervisordState.HUNG:
            return Exit.UNREACHABLE
        if self.supervisord in (SupervisordState.DOWN, SupervisordState.STOPPING):
            return Exit.DOWN
        return Exit.OK if self.ready else Exit.FAILED


class _BridgeFigures(msgspec.Struct, kw_only=True):
    """What the bridge knows of the questions, as far as it could be read."""

    is_whole: bool = False
    queue: dict[str, int] | None = None
    latency: Latency = Latency(p50=None, p99=None)
    in_flight: dict[str, int] = {}
    usage: dict[str, Spent] = {}
    hosts: list[AnsweringHome] = []


def status(home: Home, config: Config) -> Status:
    """Look at everything once."""
    refuse_copy(home)
    problems: list[str] = []
    state, programs = _ask_supervisord(home, problems)
    figures = _read_bridge(home, config, problems)
    has_room, room = disk_room(written_folders(home, config))
    if not has_room:
        problems.append(room)
    processes = _processes(home, config, programs)
    by_name = {process.name: process for process in processes}
    shards = [_shard(home, config, shard, by_name, figures) for shard in config.shards]
    roles = ["poller", "gateway"] if config.gateway.enabled else ["poller"]
    return Status(
        ready=state is SupervisordState.RUNNING
        and figures.is_whole
        and has_room
        and all(by_name[role].ready for role in roles)
        and all(shard.ready and not shard.paused for shard in shards),
        supervisord=state.value,
        processes=processes,
        shards=shards,
        queue=figures.queue,
        latency_ms=figures.latency,
        problems=problems,
        version=__version__,
        supervisord_version=supervisord_version(home),
        last_change=last_change(home, is_down=state is SupervisordState.DOWN),
        disks=_disks(home, config),
        hosts=figures.hosts,
    )


def _disks(home: Home, config: Config) -> list[DiskForecast]:
    try:
        return disk_forecast(home, config)
    except OSError:  # of a folder that is away, which is named elsewhere
        return []


def disk_room(folders: list[Path]) -> tuple[bool, str]:
    """Tell whether all of these folders have room, and how much, or what is wrong."""
    there = [folder for folder in folders if folder.is_dir()]
    short = [found for folder in there if (found := disk_space.shortage(folder))]
    detail = "; ".join(short or map(disk_space.free, there)) or f"there is no {folders[0]}"
    return bool(there) and not short, detail


def _ask_supervisord(
    home: Home, problems: list[str]
) -> tuple[SupervisordState, dict[str, Program]]:
    """Return its state and its programs by name; add to `problems` why it does not answer."""
    try:
        programs = Supervisor(socket_path(home), PATIENCE_S).processes()
    except SupervisorError as error:
        state, why = state_from(error, home)
        problems += [why] if why else []
        return state, {}
    return SupervisordState.RUNNING, {program.name: program for program in programs}


def _read_bridge(home: Home, config: Config, problems: list[str]) -> _BridgeFigures:
    """Return what the bridge knows; add to `problems` why it cannot be read."""
    figures = _BridgeFigures()
    try:
        with closing(connect(home, config, read_only=True)) as bridge:
            overview = bridge.overview
            figures.queue, figures.in_flight = overview.counts(), overview.in_flight()
            figures.latency, figures.usage = _latency(bridge), overview.spent(utc_day(wall_ms()))
            figures.hosts = overview.homes()
            figures.is_whole = True
    except AutopollError as error:
        problems.append(error.what)
    return figures


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
        version=beat.version or None,
    )


def _why_down(home: Home, program: Program) -> str:
    """Return why a program does not run, unless an operator has stopped it."""
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
    home: Home, config: Config, name: str, processes: dict[str, Process], figures: _BridgeFigures
) -> ShardStatus:
    mine = [processes[worker] for worker, shard in config.instances().items() if shard == name]
    ready = sum(process.ready for process in mine)
    paused = shard_pause.current(home, name)
    held = [process.note or "held" for process in mine if process.state == ProcessState.HELD]
    return ShardStatus(
        name=name,
        backend=config.shards[name].backend,
        instances=len(mine),
        ready=ready,
        in_flight=figures.in_flight.get(name, 0),
        paused=paused.words if paused else held[0] if held and not ready else None,
        usage_today=figures.usage.get(name, Spent()),
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
