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
from contextlib import suppress
from pathlib import Path

from autopoll import files, runnable
from autopoll.availability import last_error
from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.backends.environment import worker_environment
from autopoll.config import STOP_WAIT_S, Config, DeliverySection, context_paths
from autopoll.errors import (
    AlreadyRunning,
    AutopollError,
    ConfigError,
    DoesNotStart,
    Down,
    Exit,
    SupervisorError,
    TimedOut,
)
from autopoll.home import Home, socket_path
from autopoll.lock import acquire, hold_in_turn, holder_of
from autopoll.prepare import prepare
from autopoll.process import gate, heartbeat, orphans
from autopoll.process.heartbeat import Beat, State
from autopoll.process.supervisor import Supervisor

START_LIMIT_S = 90.0
STEP_S = 0.05
PATIENCE_S = 5.0  # with the lock of a supervisord that has just ended
PR_SET_CHILD_SUBREAPER = 36
LOCK_DESCRIPTOR = 3  # supervisord closes what it inherits from 5 upward, and keeps this
# -P, or a json.py among the files of a home would be run in the place of Python's own.
MODULE = [sys.executable, "-P", "-m"]
SUPERVISORD = [*MODULE, "supervisor.supervisord"]
READY = (State.IDLE, State.BUSY)

GATEWAY = "gateway"

Report = Callable[[str], None]


def up(home: Home, config: Config, report: Report) -> None:
    """Start everything in the background and return when it is ready.

    Raises AlreadyRunning, ConfigError, or Down with the reason of what did not come up.
    """
    check(home, config)
    lock = home.locks / "supervisord.lock"
    prepare(home, config)
    if holder := holder_of(lock):
        raise AlreadyRunning(
            f"{home.root} is up already (supervisord is process {holder})",
            "Use `autopoll restart`, or `autopoll down` first.",
        )
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
        return output.read_text("utf-8", "replace").strip() or f"exit code {child.returncode}"

    try:
        wait_ready(home, config, report, gone)
    except AutopollError:
        down(home, config, report)  # not half a home: the next `up` starts from nothing
        raise


def up_in_foreground(home: Home, config: Config) -> None:
    """Become supervisord; never returns. For containers, systemd, and `up` itself."""
    check(home, config)
    prepare(home, config)
    descriptor = acquire(home.locks / "supervisord.lock", f"supervisord of {home.root}")
    clear_leftovers(home, config.delivery.drain_timeout)
    home.make_private()
    write_shards(home, config)
    os.dup2(descriptor, LOCK_DESCRIPTOR)
    os.set_inheritable(LOCK_DESCRIPTOR, True)  # dup2 does nothing when the numbers are the same
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Down(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")
    environ = environment(os.environ, config)
    os.chdir(home.root)
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable, [*SUPERVISORD, "-n", "-s", "-c", str(home.supervisord_conf)], environ
    )


def down(home: Home, config: Config | None, report: Report) -> bool:
    """Drain and stop everything, leaving no process and nothing in var/run; tell if it was up.

    Without a config, because it cannot be read, orphans are given the usual time to drain.
    """
    delivery = config.delivery if config else DeliverySection()
    lock = home.locks / "supervisord.lock"
    holder = holder_of(lock)
    if holder:
        report("draining")
        with suppress(PermissionError):  # root's, by an earlier version, hears us by its socket
            os.kill(holder, signal.SIGCONT)  # a stopped supervisord could not hear us
        try:
            Supervisor(socket_path(home)).shutdown()
        except SupervisorError as error:
            report(f"supervisord does not answer ({error.what}), terminating it")
            os.kill(holder, signal.SIGTERM)
        # The groups of programs stop one after another, each within STOP_WAIT_S at the worst.
        if not _until(lambda: holder_of(lock) is None, 3 * STOP_WAIT_S):
            report("supervisord does not end, killing it")
            os.kill(holder, signal.SIGKILL)
            _until(lambda: holder_of(lock) is None, 5.0)
    elif not home.run.is_dir():
        return False
    try:
        # In turn, because supervisord is gone a moment before all that had its lock open.
        with hold_in_turn(lock, f"supervisord of {home.root}", PATIENCE_S):
            left = clear_leftovers(home, delivery.drain_timeout)
    except AlreadyRunning as error:
        raise Down(f"{home.root} was started again while it went down: {error.what}") from error
    return bool(holder or left)


def restart(home: Home, config: Config, name: str | None, report: Report) -> None:
    """Restart one program, or everything when no name is given.

    Raises Down with the reason of a worker that does not start; it goes on trying.
    """
    if name is None:
        down(home, config, report)
        up(home, config, report)
        return
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


def check(home: Home, config: Config) -> None:
    """Raise ConfigError for whatever can be known to be wrong before anything is started."""
    socket_path(home)
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


def write_shards(home: Home, config: Config) -> None:
    """Write a program file for each instance that conf/supervisord.conf does not name itself, and
    for the gateway."""
    template = worker_program(home)
    wanted: dict[str, list[str]] = {}
    for name, shard in config.instances().items():
        if name == "worker":
            continue
        number = name.rsplit("-", 1)[1]
        text = template.replace("[program:worker]", f"[program:{name}]")
        text = text.replace("--shard main --instance 1", f"--shard {shard} --instance {number}")
        text = text.replace("%(here)s/../var/log/worker.", f"%(here)s/../../var/log/{name}.")
        wanted.setdefault(f"{shard}.conf", []).append(text)
    if config.gateway.enabled:
        text = template.replace("[program:worker]", f"[program:{GATEWAY}]")
        text = text.replace("worker --home . --shard main --instance 1", f"{GATEWAY} --home .")
        text = text.replace("priority = 20", "priority = 40")  # up last, down first: it only asks
        text = text.replace("%(here)s/../var/log/worker.", f"%(here)s/../../var/log/{GATEWAY}.")
        wanted[f"@{GATEWAY}.conf"] = [text]  # a name that no shard can have
    for old in home.shards_d.glob("*.conf"):
        if old.name not in wanted:
            old.unlink()
    if wanted:
        home.shards_d.mkdir(mode=0o700, exist_ok=True)
    for name, sections in wanted.items():
        path, text = home.shards_d / name, "\n".join(sections)
        if files.get(path) != text.encode():  # which lets conf be read-only, as in an image
            files.put(path, text.encode())


def clear_leftovers(home: Home, patience: float) -> int:
    """End what an earlier supervisord left running, empty var/run, and return how many there were.

    Orphans drain by themselves when supervisord dies; only what outlives its drain is killed.
    Called under the home's lock.
    """
    marker = {"AUTOPOLL_SUPERVISED": str(home.supervisord_conf.parent)}
    count = len(orphans.find(marker))
    _until(lambda: not orphans.find(marker), patience)
    orphans.sweep(marker)
    socket_path(home).unlink(missing_ok=True)
    if home.run.is_dir():
        for entry in home.run.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    return count


def wait_ready(home: Home, config: Config, report: Report, gone: Callable[[], str]) -> None:
    """Wait until every role beats and is ready; raise Down with what is known of a failure."""
    names = ["watchdog", *config.instances(), "poller"]
    names += [GATEWAY] if config.gateway.enabled else []
    reported = ""

    def missing() -> list[str]:
        beats = {beat.name: beat for beat in heartbeat.read_all(home.beats)}
        return [
            name
            for name in names
            if name not in beats
            or not is_up(home, beats[name])
            or not heartbeat.is_alive(beats[name])
        ]

    end = time.monotonic() + START_LIMIT_S
    while waiting := missing():
        if why := gone():
            raise Down(f"supervisord did not start: {why}")
        if failed := given_up(home):
            raise failed
        if time.monotonic() > end:
            raise TimedOut(
                f"not ready after {START_LIMIT_S:.0f} s: {', '.join(waiting)}",
                f"See: autopoll logs {waiting[0]}",
            )
        if (text := f"waiting for {', '.join(waiting)}") != reported:
            report(reported := text)
        time.sleep(STEP_S)


def given_up(home: Home) -> Down | None:
    """Return what is to be said of a program that supervisord does not try any more, or of a worker
    that holds back from trying."""
    for beat in heartbeat.read_all(home.beats):
        if is_held(home, beat):
            return does_not_start(beat.name, beat.note)
    try:
        programs = Supervisor(socket_path(home)).processes()
    except SupervisorError:
        return None  # not listening yet
    for program in programs:
        refused = program.state == "EXITED" and program.exitstatus == Exit.BAD_CONFIG
        if program.state == "FATAL" or refused:
            return does_not_start(program.name, last_error(home, program.name))
    return None


def is_held(home: Home, beat: Beat) -> bool:
    """Tell whether a worker holds back because it crashed too often."""
    return beat.state is State.HELD and gate.is_failing(home.gates / beat.name)


def is_up(home: Home, beat: Beat) -> bool:
    """Tell whether a process is ready, or will be without help: a pause is no failure."""
    if beat.state is State.HELD:
        return not is_held(home, beat)
    return beat.state in READY


def does_not_start(name: str, said: str) -> DoesNotStart:
    """Return the error that names a program and the reason it gave."""
    return DoesNotStart(f"{name} does not start: {said}", f"More in: autopoll logs {name}")


def worker_program(home: Home) -> str:
    """Return the section of the first worker, after which all others are made."""
    text = home.supervisord_conf.read_text("utf-8")
    start = text.find("[program:worker]")
    if start < 0:
        raise ConfigError(
            f"{home.supervisord_conf} has no section [program:worker]",
            f"Remove the file and make it anew with: autopoll init '{home.root}'",
        )
    end = text.find("\n[", start)
    lines = text[start : end if end > 0 else len(text)].splitlines()
    return "\n".join(line for line in lines if not line.startswith(";")).strip() + "\n"


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(STEP_S)
    return True
