"""Removes a shard from a home: its workers are drained and every question to it is settled."""

import secrets
from collections.abc import Callable
from functools import partial

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client.other_homes import others_serving
from autopoll.errors import AutopollError, NotFound, UsageError
from autopoll.home import config_edit, shard_files, toml_file
from autopoll.home.config import Config, parse
from autopoll.home.home import Home
from autopoll.ops.change_lock import changing
from autopoll.ops.init import prepare
from autopoll.ops.process_tree import Tree, environ_of
from autopoll.ops.programs import write_programs
from autopoll.ops.reload import apply, refuse_unapplied
from autopoll.ops.shards.give_up import LEASE_MS, Report, give_up
from autopoll.ops.supervisord_state import wait_until_steady
from autopoll.process import manual_pause


class QuestionsWaiting(AutopollError):
    """Questions wait for the shard that is to be removed."""


class ServedElsewhere(AutopollError):
    """Another home that is away for now answers for the shard that is to be removed."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a removal; the history of the conversation stays."""

    shard: str
    running: bool  # false on a home that is down
    given_up: int  # questions that got an error answer and are dead letters now
    unserved: list[str]  # conversations that nobody answers any more
    elsewhere: list[str]  # hosts that go on answering for the shard, so that nothing is given up


def remove(home: Home, name: str, report: Report, *, force: bool) -> Removed:
    """Drain a shard, stop its processes, and take it out of the settings.

    What an earlier call that was killed left undone is completed. Raises UsageError for main,
    NotFound; and, unless `force`, ServedElsewhere and QuestionsWaiting while questions wait for it.
    """
    if name == "main":
        raise UsageError(
            "shard main cannot be removed: every home has it",
            "Change its settings, and run: autopoll reload",
        )
    with changing(home, f"autopoll shards remove {name}", report):
        wait_until_steady(home, report)
        tree = Tree.of(home)
        environ = environ_of(tree)
        text, tables = toml_file.read_text(home.config), shard_files.read(home)
        before = parse(home, text, tables, environ)
        forget: Callable[[], None] | None = None
        if name in before.shards:
            if tree:
                refuse_unapplied(tree, before)
            if tables.pop(name, None) is not None:
                forget = partial(shard_files.remove, home, name)
            else:
                text = config_edit.without_shard(home.config, text, name)
                forget = partial(config_edit.write, home.config, text)
        config = parse(home, text, tables, environ)
        if name in config.shards:
            raise UsageError(
                f"shard {name} is also set by the environment", "Unset AUTOPOLL_SHARDS__… first."
            )
        prepare(home, before)  # so that there is a bridge, also before the first `up`
        bridge = connect(home, before)
        try:
            return _remove(home, name, forget, config, tree, bridge, report, force)
        finally:
            bridge.close()


def _remove(
    home: Home,
    name: str,
    forget: Callable[[], None] | None,
    config: Config,
    tree: Tree | None,
    bridge: Bridge,
    report: Report,
    force: bool,
) -> Removed:
    """Take the steps in an order in which nothing new can come once the questions were counted.

    `forget` takes the shard out of the settings; None when it is not in them any more. What another
    home goes on serving is left to it.
    """
    elsewhere = _elsewhere(home, name, bridge, force)
    served = [] if elsewhere else unserve(bridge, name)
    waiting = 0 if elsewhere else _waiting(bridge, name)
    if forget is None and not served and not waiting:
        raise NotFound(f"there is no shard {name!r}", f"There are: {', '.join(config.shards)}.")
    try:
        _refuse_waiting(name, waiting, force)
        if forget:
            forget()
    except AutopollError:
        for conversation, session in served:
            bridge.conversations.serve(conversation, session, name)
        raise
    if tree:
        apply(tree, config, report)
    else:
        write_programs(home, config)
        manual_pause.end(home, name)
    gone = f"shard {name} was removed from this home"
    given_up = 0 if elsewhere else give_up(bridge, name, gone, report)
    return Removed(
        shard=name,
        running=tree is not None,
        given_up=given_up,
        unserved=[conversation for conversation, _ in served],
        elsewhere=elsewhere,
    )


def _elsewhere(home: Home, name: str, bridge: Bridge, force: bool) -> list[str]:
    """Return the hosts of other homes that go on answering; raise ServedElsewhere for one away."""
    others = others_serving(home, bridge, name)
    alive = [each.host for each in others if each.alive]
    if others and not alive and not force:
        away = ", ".join(each.host for each in others)
        raise ServedElsewhere(
            f"shard {name} is also served on {away}, away for now",
            "Start that home first, which then goes on answering; or remove the shard with "
            "--force, which gives each question an error answer, also what was asked there.",
        )
    return alive


def _refuse_waiting(name: str, waiting: int, force: bool) -> None:
    if waiting and not force:
        raise QuestionsWaiting(
            f"{waiting} questions wait for shard {name}",
            "Wait until they are answered; or remove it with --force, which gives each an "
            "error answer and keeps it as a dead letter.",
        )


def unserve(bridge: Bridge, shard: str) -> list[tuple[str, str]]:
    """End the routes to a shard; return (conversation, session) of each."""
    routes = [route for route, served in bridge.conversations.routes().items() if served == shard]
    for conversation, session in routes:
        bridge.conversations.unserve(conversation, session)
    return routes


def _waiting(bridge: Bridge, shard: str) -> int:
    # Claims nothing, but enrols what was sent.
    bridge.deliveries.claim(secrets.token_hex(8), {}, LEASE_MS)
    return bridge.overview.waiting().get(shard, 0)
