"""Removes a shard from a home: its workers are drained and every question to it is settled."""

import secrets
import time
from collections.abc import Callable
from functools import partial

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Delivery, Failed, Outcome
from autopoll.client.other_homes import others_serving
from autopoll.errors import AutopollError, NotFound, UsageError
from autopoll.home import config_edit, shard_files, toml_file
from autopoll.home.config import Config, parse
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.ops.change_lock import changing
from autopoll.ops.init import prepare
from autopoll.ops.process_tree import Tree, environ_of
from autopoll.ops.programs import write_programs
from autopoll.ops.reload import apply, refuse_unapplied
from autopoll.ops.supervisord_state import wait_until_steady
from autopoll.poller import outcomes

LEASE_MS = 60_000
AT_ONCE = 100
LATEST_S = 60.0  # until the last retry of a question is due, and it can be taken
STEP_S = 0.2

Report = Callable[[str], None]


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
    others = others_serving(home, bridge, name)
    elsewhere = [each.host for each in others if each.alive]
    if others and not elsewhere and not force:
        away = ", ".join(each.host for each in others)
        raise ServedElsewhere(
            f"shard {name} is also served on {away}, away for now",
            "Start that home first, which then goes on answering; or remove the shard with "
            "--force, which gives each question an error answer, also what was asked there.",
        )
    served = [] if elsewhere else unserve(bridge, name)
    waiting = 0 if elsewhere else _waiting(bridge, name)
    if forget is None and not served and not waiting:
        raise NotFound(f"there is no shard {name!r}", f"There are: {', '.join(config.shards)}.")
    try:
        if waiting and not force:
            raise QuestionsWaiting(
                f"{waiting} questions wait for shard {name}",
                "Wait until they are answered; or remove it with --force, which gives each an "
                "error answer and keeps it as a dead letter.",
            )
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
    gone = f"shard {name} was removed from this home"
    given_up = 0 if elsewhere else give_up(bridge, name, lambda each: _dead(each, gone), report)
    return Removed(
        shard=name,
        running=tree is not None,
        given_up=given_up,
        unserved=[conversation for conversation, _ in served],
        elsewhere=elsewhere,
    )


def unserve(bridge: Bridge, shard: str, only_in: str | None = None) -> list[tuple[str, str]]:
    """End the routes to a shard, of one conversation or of all; return (conversation, session)."""
    routes = [
        route
        for route, served in bridge.conversations.routes().items()
        if served == shard and only_in in (None, route[0])
    ]
    for conversation, session in routes:
        bridge.conversations.unserve(conversation, session)
    return routes


def give_up(
    bridge: Bridge,
    shard: str,
    outcome: Callable[[Delivery], Outcome],
    report: Report,
    only_in: str | None = None,
) -> int:
    """Settle every question that waits for a shard without workers; return how many.

    With `only_in`, only those of one conversation; the others wait on.
    """
    owner = secrets.token_hex(8)
    count = 0
    others: list[Outcome] = []  # held until the end, so that they are not claimed again and again
    end = time.monotonic() + LATEST_S
    try:
        while True:
            taken = bridge.deliveries.claim(owner, {shard: AT_ONCE}, LEASE_MS)
            mine = [each for each in taken if only_in in (None, each.conversation)]
            others += [outcomes.released(each) for each in taken if each not in mine]
            # Clients that wait poll once a second, so no bell is rung.
            count += len(bridge.deliveries.settle([outcome(each) for each in mine], owner))
            if taken:
                continue
            if not (left := _unsettled(bridge, shard, only_in)):
                return count
            if time.monotonic() > end:
                raise AutopollError(
                    f"{left} questions to shard {shard} cannot be settled yet",
                    f"They are kept; give them up later: autopoll shards remove {shard} --force",
                )
            report(f"{left} questions are about to be tried again, waiting for them")
            time.sleep(STEP_S)
    finally:
        bridge.deliveries.settle(others, owner)


def refused(delivery: Delivery, why: str) -> Outcome:
    """Return the outcome that answers with an error, and keeps no dead letter."""
    return outcomes.answered(delivery, Answer(text=why, error=True))


def _dead(delivery: Delivery, why: str) -> Outcome:
    return Failed(
        message_id=delivery.message_id,
        fence=delivery.fence,
        error=why,
        wait_ms=0,
        permanent=True,
    )


def _unsettled(bridge: Bridge, shard: str, only_in: str | None) -> int:
    """Return how many enrolled questions to a shard wait, in one conversation or in all."""
    if only_in is None:
        return bridge.overview.waiting().get(shard, 0)
    found = bridge.messages.find(conversation=only_in, session="b", waiting=True)
    states = bridge.messages.query_states([each.id for each in found])
    return sum(each.state in ("queued", "ready", "leased") for each in states)


def _waiting(bridge: Bridge, shard: str) -> int:
    # Claims nothing, but enrols what was sent.
    bridge.deliveries.claim(secrets.token_hex(8), {}, LEASE_MS)
    return bridge.overview.waiting().get(shard, 0)
