"""Applies changed settings to a home that runs, and touches nothing that they do not concern.

Each heartbeat says which settings its process runs with; only what differs from the files is
changed. So a reload that was interrupted, or that finds half of a change done already, is completed
by the next one. A worker with new settings is signalled to end and started again by supervisord,
not stopped through supervisord: a reload killed between a stop and a start would leave it stopped.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable

import msgspec

from autopoll import __version__
from autopoll.bridge.connect import connect
from autopoll.client.availability import last_error
from autopoll.errors import ConfigError, Down
from autopoll.home import fingerprint
from autopoll.home.config import Config, load
from autopoll.home.home import Home, shard_of
from autopoll.ops import crash_cleanup
from autopoll.ops.change_lock import changing
from autopoll.ops.init import prepare
from autopoll.ops.process_tree import (
    GATEWAY,
    POLLER,
    STEP_S,
    Plan,
    Tree,
    is_ours,
    under,
    wanted_by,
)
from autopoll.ops.programs import write_programs
from autopoll.ops.readiness import START_LIMIT_S, does_not_start, wait_for
from autopoll.ops.start_checks import check_start
from autopoll.ops.supervisord_state import wait_until_steady
from autopoll.process.heartbeat import Beat
from autopoll.process.ready import is_held, is_up

WATCHDOG = "watchdog"
WATCHDOG_S = 5.0  # for two rounds of its loop, of a second each

Report = Callable[[str], None]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a reload: names of shards, and what the poller did."""

    added: list[str] = []
    changed: list[str] = []  # those of which a worker was restarted, added or removed
    removed: list[str] = []
    unchanged: list[str] = []
    poller: str = "unchanged"  # unchanged | in place | restarted
    gateway: str = "unchanged"  # unchanged | added | restarted | removed
    waiting: dict[str, int] = {}  # removed shard -> questions that are kept for it


def reload(home: Home, report: Report) -> Reloaded:
    """Apply the settings as they are and return what that changed.

    Raises ConfigError and SupervisorError with nothing touched, and Down with the reason when the
    home is down, or when a worker does not start with its new settings, which it keeps trying.
    """
    with changing(home, "autopoll reload", report):
        wait_until_steady(home, report)
        tree = Tree.of(home)
        config = tree.load() if tree else load(home)
        if tree is None:
            check_start(home, config)
            raise Down(
                f"{home.root} is down; the settings are good",
                "They take effect with: autopoll up",
            )
        return apply(tree, config, report)


def apply(tree: Tree, config: Config, report: Report) -> Reloaded:
    """Make what runs what the settings say; called while the change lock is held."""
    home = tree.home
    with under(tree.environ):
        check_start(home, config)
    prepare(home, config)
    tree.await_beats()
    before = tree.programs()
    write_programs(home, config)
    on_disk = tree.supervisor.reload_config()
    plan = tree.plan(config)
    rewritten = [name for name in on_disk.changed if name in wanted_by(config)]
    if leaving := [*plan.removed, *rewritten]:
        report(f"draining {', '.join(leaving)}")
        tree.remove(leaving)
    for name in [*plan.added, *rewritten]:
        tree.supervisor.add_group(name)
    poller = tree.beat(POLLER)
    changed = [name for name in plan.changed if name not in rewritten]
    _take_up_code(tree, config, changed, report)
    if plan.poller:
        tree.renew(POLLER, tree.signal_for_poller())
    for name in changed:
        if tree.is_behind(name, wanted_by(config)[name]):
            tree.renew(name, signal.SIGTERM)
    _wait(tree, config, [*plan.added, *rewritten, *changed], plan.poller, report)
    clear(tree, config)
    return _reloaded(tree, config, plan, rewritten, set(before), poller)


def _take_up_code(tree: Tree, config: Config, names: list[str], report: Report) -> None:
    """Have what runs other code than is installed start anew, one after another.

    So of a shard with several instances the others go on, and no question waits for longer than
    one takes to start.
    """
    if tree.is_outdated(WATCHDOG):
        tree.renew(WATCHDOG, signal.SIGTERM)
    for name in names:
        if tree.is_outdated(name):
            report(f"{name} takes up version {__version__}")
            tree.renew(name, signal.SIGTERM)
            _wait(tree, config, [name], False, report)


def refuse_unapplied(tree: Tree, config: Config) -> None:
    """Raise ConfigError when the settings on disk are not what runs: a change of one shard must not
    apply changes of others along with it."""
    plan = tree.plan(config)
    if plan.is_empty:
        return
    what = ", ".join(plan.shards) or "the poller or the gateway"
    raise ConfigError(
        f"the settings or the version of {tree.home.root} changed and do not run yet, for: {what}",
        "Apply them first: autopoll reload",
    )


def clear(tree: Tree, config: Config) -> None:
    """Remove from var/run what is left of workers that are no longer wanted."""
    home, wanted = tree.home, wanted_by(config)
    gone = {
        name
        for folder in (home.beats, home.workers, home.gates)
        for name in os.listdir(folder)  # noqa: PTH208 - names are wanted, not paths
        if is_ours(name) and name not in wanted and not tree.beat(name)
    }
    if gone and not _has_watchdog_seen(tree):
        return  # the next reload clears up
    idle = {f"{crash_cleanup.SHARD}{path.name}" for path in home.pauses.iterdir()} - {
        f"{crash_cleanup.SHARD}{shard}" for shard in config.shards
    }
    crash_cleanup.close_incidents(home, "removed", lambda each: each.process in gone | idle)
    for name in gone:
        shutil.rmtree(home.workers / name, ignore_errors=True)
        (home.beats / name).unlink(missing_ok=True)
        (home.gates / name).unlink(missing_ok=True)
        (home.remarks / name).unlink(missing_ok=True)
    for path in (*home.pauses.iterdir(), *home.manual_pauses.iterdir()):
        if path.name not in config.shards:
            path.unlink(missing_ok=True)


def _wait(tree: Tree, config: Config, workers: list[str], poller: bool, report: Report) -> None:
    """Wait until these run with the new settings; raise Down with the reason of one that fails."""
    wanted = {name: settings for name, settings in wanted_by(config).items() if name in workers}
    wanted |= {POLLER: fingerprint.of_poller(config)} if poller else {}
    wait_for(
        lambda: [name for name, text in wanted.items() if not _is_there(tree, name, text)],
        report,
        START_LIMIT_S + config.delivery.drain_timeout,
        " with the new settings",
    )


def _is_there(tree: Tree, name: str, settings: str) -> bool:
    """Tell whether a process runs with these settings, or is kept down on purpose."""
    beat = tree.beat(name)
    if beat is None:
        program = tree.supervisor.process(name)
        if program.is_given_up:
            raise does_not_start(name, last_error(tree.home, name))
        return program.state == "STOPPED"  # by an operator
    if beat.settings != settings or tree.is_outdated(name):
        return False
    if is_held(tree.home, beat):
        raise does_not_start(name, beat.note)
    return is_up(tree.home, beat)


def _has_watchdog_seen(tree: Tree) -> bool:
    """Wait until the watchdog has noticed that a process ended; tell whether it has.

    With the heartbeat gone by then, it would record an intended end as a crash.
    """
    rounds: set[float] = set()
    end = time.monotonic() + WATCHDOG_S
    while time.monotonic() < end:
        beat = tree.beat(WATCHDOG)
        if beat is None:
            return True  # the next watchdog does not know the process
        rounds.add(beat.loop_beat)
        if len(rounds) > 2:  # one of them was a whole round
            return True
        time.sleep(STEP_S)
    return False


def _reloaded(
    tree: Tree,
    config: Config,
    plan: Plan,
    rewritten: list[str],
    before: set[str],
    poller: Beat | None,
) -> Reloaded:
    """Return what was changed, by shard."""
    moved = {*plan.added, *plan.changed, *plan.removed, *rewritten}
    touched = {shard_of(name) for name in moved - {GATEWAY}}
    old = {shard_of(name) for name in before if name == "worker" or name.startswith("worker-")}
    now = tree.beat(POLLER)
    in_place = now is not None and poller is not None and now.pid == poller.pid
    return Reloaded(
        added=[name for name in config.shards if name not in old],
        changed=[name for name in config.shards if name in touched and name in old],
        removed=sorted(old - set(config.shards)),
        unchanged=[name for name in config.shards if name not in touched],
        poller="unchanged" if not plan.poller else "in place" if in_place else "restarted",
        gateway=_gateway(plan, moved),
        waiting=_waiting(tree.home, config),
    )


def _gateway(plan: Plan, moved: set[str]) -> str:
    if GATEWAY in plan.added:
        return "added"
    if GATEWAY in plan.removed:
        return "removed"
    return "restarted" if GATEWAY in moved else "unchanged"


def _waiting(home: Home, config: Config) -> dict[str, int]:
    bridge = connect(home, config, read_only=True)
    try:
        return {
            shard: count
            for shard, count in bridge.overview.waiting().items()
            if shard not in config.shards
        }
    finally:
        bridge.close()
