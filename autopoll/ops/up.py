"""Brings a home up, takes it down, and clears away what a violent death left behind.

supervisord is the one that restarts; this module only starts and ends it. It runs behind a lock,
so that a home has one, and as a subreaper, so that orphans of its children become its own.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.backends.environment import worker_environment
from autopoll.errors import (
    AlreadyRunning,
    AutopollError,
    ConfigError,
    Down,
    Exit,
    SupervisorError,
    TimedOut,
)
from autopoll.home import runnable
from autopoll.home.config import STOP_WAIT_S, Config, DeliverySection, context_paths, load
from autopoll.home.home import Home, socket_path
from autopoll.home.lock import acquire, hold_in_turn, holder_of
from autopoll.ops import copied, leftovers
from autopoll.ops.init import prepare
from autopoll.ops.outlet import STDERR, STDOUT, Outlet
from autopoll.ops.phase import DOWN, RESTART, UP, Phase
from autopoll.ops.programs import names_of, worker_program, write_shards
from autopoll.ops.startup import START_LIMIT_S, does_not_start, given_up, wait_ready
from autopoll.ops.turn import settle, turn
from autopoll.process import heartbeat, signals
from autopoll.process.proc_stat import read_stat
from autopoll.process.ready import is_held, is_up, missing
from autopoll.process.supervisor_rpc import Supervisor

STEP_S = 0.05
PATIENCE_S = 5.0  # with the lock of a supervisord that has just ended
PR_SET_CHILD_SUBREAPER = 36
LOCK_DESCRIPTOR = 3  # supervisord closes what it inherits from 5 upward, and keeps this
# -P, or a json.py among the files of a home would be run in the place of Python's own.
MODULE = [sys.executable, "-P", "-m"]

Report = Callable[[str], None]


def up(home: Home, config: Config, report: Report) -> int | None:
    """Start everything in the background and return when it is ready.

    When another command has started it meanwhile, its supervisord is waited for, and its pid
    returned. Raises AlreadyRunning, ConfigError, or Down with the reason of what did not come up.
    """
    check(home, config)
    was_up = _settled_supervisord(home, config)
    with turn(home, UP, report):
        return _up(home, report, was_up)


def _up(home: Home, report: Report, was_up: int | None = None) -> int | None:
    """Start everything; called with the turn, in which nobody changes the settings."""
    config = load(home)
    check(home, config)
    phase = settle(home, report)
    holder = holder_of(home.supervisord_lock)
    if holder == was_up is not None or (holder is None and phase is Phase.RUNNING):
        raise already_up(home)
    if holder:
        report(f"waiting for what process {holder} starts")
        wait_ready(home, config, report, lambda: _ended(home, holder))
        return holder
    prepare(home, config)
    report("starting supervisord")
    output = home.log / "up.stderr"
    with output.open("wb") as stderr:
        child = subprocess.Popen(
            [*MODULE, "autopoll", "up", "--foreground", "--home", str(home.root)],
            cwd=home.root,
            env=fixed_imports(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )

    def gone() -> str:
        if child.poll() is None:
            return ""
        said = output.read_text("utf-8", "replace").strip()
        return said or _ending(child.returncode)

    try:
        wait_ready(home, config, report, gone)
    except AutopollError:
        # Not half a home: the next `up` starts from nothing. What others started is theirs.
        if holder_of(home.supervisord_lock) in (None, child.pid):
            _down(home, config, report)
        raise
    return None


def _settled_supervisord(home: Home, config: Config) -> int | None:
    """Return the supervisord of a home that is up; None for one that is still coming up."""
    holder = holder_of(home.supervisord_lock)
    reading = read_stat(holder) if holder else None
    if reading is None:
        return None
    is_late = reading.age_s > START_LIMIT_S or given_up(home)
    return holder if is_late or not missing(home, names_of(config)) else None


def _ended(home: Home, supervisord: int) -> str:
    """Return that a supervisord which is not our child has ended; empty while it has not."""
    if holder_of(home.supervisord_lock) == supervisord:
        return ""
    return f"process {supervisord}, which another command started, has ended"


def _ending(code: int) -> str:
    return f"exit code {code}" if code else "it was shut down while it started"


def already_up(home: Home) -> AlreadyRunning:
    """Return the error that names who has the home up."""
    holder = holder_of(home.supervisord_lock)
    who = f"supervisord is process {holder}" if holder else "by a supervisord started by hand"
    return AlreadyRunning(
        f"{home.root} is up already ({who})", "Use `autopoll restart`, or `autopoll down` first."
    )


def up_in_foreground(home: Home, config: Config) -> None:
    """Become supervisord; never returns. For containers, systemd, and `up` itself."""
    report = Outlet(STDOUT).say
    # The first process of a container is sent no signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.OK))
    check(home, config)
    # `up` has the turn for us, until all is ready; else it is ours until we are supervisord.
    ours = holder_of(home.change_lock) != os.getppid()
    with turn(home, f"{UP} --foreground", report) if ours else nullcontext():
        config = load(home)
        if ours and settle(home, report) is Phase.RUNNING:
            raise already_up(home)
        prepare(home, config)
        descriptor = acquire(home.supervisord_lock, f"supervisord of {home.root}")
        leftovers.clear(home, config.delivery.drain_timeout)
        leftovers.close_past(home, names_of(config))
        home.make_private()
        write_shards(home, config)
        os.dup2(descriptor, LOCK_DESCRIPTOR)
        os.set_inheritable(LOCK_DESCRIPTOR, True)  # dup2 does nothing when the numbers are the same
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            # Then init adopts orphans; they are found by their marks all the same.
            reason = os.strerror(ctypes.get_errno())
            said = f"autopoll: orphans go to init, for no subreaper is allowed: {reason}"
            Outlet(STDERR).say(said)
        environ = environment(os.environ, config)
        os.chdir(home.root)
        signals.hold_back()  # until supervisord has handlers
        os.execve(  # noqa: S606 - no shell is wanted
            sys.executable,
            [*MODULE, "autopoll.ops.supervisord", "-n", "-s", "-c", str(home.supervisord_conf)],
            environ,
        )


def down(home: Home, config: Config | None, report: Report) -> bool:
    """Drain and stop everything, leaving no process and nothing in var/run; tell if it was up.

    Without a config, because it cannot be read, orphans are given the usual time to drain.
    """
    if not home.locks.is_dir():
        return False
    with turn(home, DOWN, report):
        return _down(home, config, report)


def _down(home: Home, config: Config | None, report: Report) -> bool:
    """Stop everything; called with the turn."""
    delivery = config.delivery if config else DeliverySection()
    lock = home.supervisord_lock
    holder = holder_of(lock)
    if holder:
        report("draining")
        _end(home, holder, report)
    try:
        # In turn, because supervisord is gone a moment before all that had its lock open.
        with hold_in_turn(lock, f"supervisord of {home.root}", PATIENCE_S):
            left = leftovers.clear(home, delivery.drain_timeout)
            leftovers.close_all(home)
    except AlreadyRunning as error:
        raise Down(f"{home.root} was started again while it went down: {error.what}") from error
    return bool(holder or left)


def _end(home: Home, supervisord: int, report: Report) -> None:
    """Have supervisord stop its programs and end, or else end it by force."""
    lock = home.supervisord_lock
    with suppress(PermissionError):  # root's, by an earlier version, hears us by its socket
        _signal(supervisord, signal.SIGCONT)  # a stopped supervisord could not hear us
    try:
        Supervisor(socket_path(home)).shutdown()
    except SupervisorError as error:
        if not error.stopping:
            report(f"supervisord does not answer ({error.what}), terminating it")
            _signal(supervisord, signal.SIGTERM)
    # The groups of programs stop one after another, each within STOP_WAIT_S at the worst.
    if not _until(lambda: holder_of(lock) != supervisord, 3 * STOP_WAIT_S):
        report("supervisord does not end, killing it")
        _signal(supervisord, signal.SIGKILL)
        _until(lambda: holder_of(lock) != supervisord, PATIENCE_S)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, number)


def restart(home: Home, config: Config, name: str | None, report: Report) -> None:
    """Restart one program, or everything when no name is given.

    Raises Down with the reason of a worker that does not start; it goes on trying.
    """
    if name is None:
        check(home, config)
        with turn(home, RESTART, report):
            _down(home, config, report)
            _up(home, report)
        return
    copied.refuse(home)
    with turn(home, f"{RESTART} {name}", report):
        settle(home, report)
        _restart(home, name, report)


def _restart(home: Home, name: str, report: Report) -> None:
    """Restart one program; called with the turn."""
    supervisor = Supervisor(socket_path(home))
    report(f"draining {name}")
    before = heartbeat.read(home.beats / name)
    supervisor.restart(name)
    report(f"waiting for {name}")

    def ready() -> bool:
        beat = heartbeat.read(home.beats / name)
        if beat is None or (before and beat.pid == before.pid):
            return False
        if is_held(home, beat):
            raise does_not_start(name, beat.note)
        return is_up(home, beat)

    if not _until(ready, START_LIMIT_S):
        raise TimedOut(
            f"{name} is not ready after {START_LIMIT_S:.0f} s", f"See: autopoll logs {name}"
        )


def _refuse_link(home: Home) -> None:
    """Raise ConfigError where `%(here)s/..` in the process tree would lead out of the home."""
    folder = home.supervisord_conf.parent
    if (place := folder.resolve()) != folder:
        raise ConfigError(
            f"{folder} is a link to {place}, and supervisord would look for var beside that",
            "Make it a folder of the home; the file in it may be a link.",
        )


def check(home: Home, config: Config) -> None:
    """Raise ConfigError for whatever can be known to be wrong before anything is started."""
    copied.refuse(home)
    _refuse_link(home)
    worker_program(home)
    runnable.require_safe_tree(home, environment(os.environ, config)["PATH"])
    for shard, section in config.shards.items():
        open_backend(
            section.backend,
            Setting(
                shard=shard,
                root=home.root,
                context=context_paths(home, section),
                options=section.options,
            ),
        )


def environment(inherited: Mapping[str, str], config: Config) -> dict[str, str]:
    """Return the environment for supervisord: of ours only what workers may have."""
    kept = worker_environment(
        fixed_imports(inherited), [each.options for each in config.shards.values()]
    )
    # conf/supervisord.conf says `autopoll`: the one of this installation, activated or not.
    folders = [str(Path(sys.executable).parent)]
    if script := shutil.which("autopoll"):
        folders.append(str(Path(script).parent))
    kept["PATH"] = os.pathsep.join([*folders, kept.get("PATH", os.defpath)])
    return kept


def fixed_imports(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment by which Python imports the same in every folder.

    An empty entry of PYTHONPATH (`:/opt/lib`) is the folder in which a program is started: for our
    processes that is the home, whose files nobody meant to run.
    """
    fixed = dict(environ)
    if entries := fixed.pop("PYTHONPATH", ""):
        named = filter(None, entries.split(os.pathsep))
        fixed["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in named)
    return fixed


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(STEP_S)
    return True
