"""However the poller ends, what was answered is settled and what was not is given back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from bridge_calls import OWN, ask

from autopoll.bridge.records import BridgeLimits, QueryState
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.errors import BridgeError
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.poller import poller as module
from autopoll.poller.poller import Poller
from autopoll.process.heartbeat_writer import Heart
from autopoll.request import Reply
from fifo import events
from fifo.server_end import ServerEnd

CONFIG = '[delivery]\ndrain_timeout = "1200ms"\n[shards.main]\nbackend = "echo"\n'
Strike = Callable[[Poller], None]


def fail() -> NoReturn:
    raise RuntimeError("the fault")


def in_a_turn(poller: Poller) -> None:
    poller.room = fail  # type: ignore[method-assign]
    poller.wake()


def in_a_step(poller: Poller) -> None:
    poller.watchdog_guard.check = fail  # type: ignore[method-assign]
    poller.schedule.every(1.0, poller.check)


def in_a_callback(_poller: Poller) -> None:
    asyncio.get_running_loop().call_soon(fail)


def in_settling(poller: Poller) -> None:
    settle = poller.settle

    def once() -> None:
        poller.settle = settle  # type: ignore[method-assign]
        raise RuntimeError("another one, of which the first is the cause")

    poller.settle = once  # type: ignore[method-assign]
    in_a_turn(poller)


class Scene:
    """A poller with two questions in flight; a worker answers the first when a fault has come."""

    def __init__(self, home: Home, bridge: SqliteBridge) -> None:
        self.home = home
        self.bridge = bridge
        made = bridge.conversations.create("asker", "memory")
        bridge.conversations.serve(made.conversation, "b", "main")
        self.ids = ask(bridge, made.conversation, "one", "two", metadata=OWN)

    async def run(self, strike: Strike) -> None:
        requests: list[int] = []

        def on_event(event: events.ServerEvent) -> None:
            if isinstance(event, events.RequestReceived):
                requests.append(event.request_id)

        server = ServerEnd(self.home.workers / "worker", credits=2, on_event=on_event)
        await server.start()
        try:
            with Heart.open(self.home.beats, "poller", "poller") as heart:
                poller = Poller(self.home, load(self.home, {}), self.bridge, heart)
                running = asyncio.create_task(poller.run())
                await until(lambda: len(requests) == 2)
                strike(poller)
                await until(lambda: poller.crash or running.done())
                server.reply(requests[0], msgspec.msgpack.encode(Reply(answer=Answer(text="so"))))
                await running
        finally:
            await server.close()

    def questions(self) -> list[QueryState]:
        return self.bridge.messages.query_states(self.ids)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    home = Home(tmp_path)
    home.make_private()
    home.config.write_text(CONFIG)
    with closing(SqliteBridge(tmp_path / "bridge.db", BridgeLimits(), create=True)) as bridge:
        yield Scene(home, bridge)


@pytest.mark.parametrize("strike", [in_a_turn, in_a_step, in_a_callback, in_settling])
def test_a_poller_that_fails_settles_what_is_answered_and_gives_back_the_rest(
    scene: Scene, strike: Strike
) -> None:
    with pytest.raises(RuntimeError, match="the fault"):
        asyncio.run(scene.run(strike))
    first, second = scene.questions()
    assert first.answer and first.answer.text == "so"
    assert (second.state, second.attempts) == ("ready", 0)
    assert [home.alive for home in scene.bridge.overview.homes()] == [False]


def test_a_poller_whose_store_was_replaced_ends_at_once_and_writes_nothing_more(
    scene: Scene,
) -> None:
    def replaced() -> NoReturn:
        raise BridgeError("bridge.db was replaced while it was open", "Take the home down before.")

    def strike(poller: Poller) -> None:
        scene.bridge.require_in_place = replaced
        poller.schedule.every(1.0, poller.check)

    with pytest.raises(BridgeError, match="was replaced"):
        asyncio.run(scene.run(strike))
    assert [each.state for each in scene.questions()] == ["leased", "leased"]
    assert [home.alive for home in scene.bridge.overview.homes()] == [True]


def test_a_poller_that_cannot_be_made_leaves_no_bell(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmade(_home: Home) -> NoReturn:
        raise OSError("no room")

    async def make() -> Awaitable[None]:
        with Heart.open(scene.home.beats, "poller", "poller") as heart:
            return Poller(scene.home, load(scene.home, {}), scene.bridge, heart).run()

    monkeypatch.setattr(module, "WatchdogGuard", unmade)
    with pytest.raises(OSError, match="no room"):
        asyncio.run(make())
    assert not scene.home.bell.exists()
