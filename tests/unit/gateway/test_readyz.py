"""Whether a question would be answered, as monitors ask without a token."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.client.client import Client
from autopoll.errors import BridgeFull, Down
from autopoll.gateway.hub import Hub
from autopoll.gateway.rest import readyz
from autopoll.gateway.rest.readyz import Readiness
from autopoll.home import disk_space
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart


class InlineHub(Hub):
    """A hub that uses a client at once, in the thread of the loop."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.home, client.config)
        self.client = client

    async def call(self, use: Callable[[Client], Any]) -> Any:
        return use(self.client)


class Disk:
    """Counts the looks at the room on it, and answers none while `answers` is not set."""

    def __init__(self) -> None:
        self.looks = 0
        self.begun = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.threads: set[threading.Thread] = set()

    def room(self, folders: list[Path]) -> tuple[bool, str]:
        self.looks += 1
        self.threads.add(threading.current_thread())
        self.begun.set()
        assert self.answers.wait(20)
        return True, ""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[InlineHub]:
    home = prepared_home(tmp_path)
    config = load(home, {})
    with closing(connect(home, config)) as bridge:
        yield InlineHub(Client(home, config, bridge))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(readyz, "disk_room", disk.room)
    return disk


def live(stack: ExitStack, home: Home, *names: str) -> None:
    for name in names:
        stack.enter_context(Heart.open(home.beats, name, name)).state = ProcessState.IDLE


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await story()

    asyncio.run(main())


def test_a_home_is_ready_with_a_poller_and_a_worker_of_each_shard(hub: InlineHub) -> None:
    with ExitStack() as stack:
        live(stack, hub.home, "poller")
        with pytest.raises(Down, match="not every shard"):
            asyncio.run(Readiness(hub).require())
        live(stack, hub.home, "worker")
        asyncio.run(Readiness(hub).require())


def test_a_home_without_room_on_its_disk_is_not_ready_and_no_stranger_learns_which(
    hub: InlineHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        live(stack, hub.home, "poller", "worker")
        monkeypatch.setattr(disk_space, "LEAST", 2**62)
        with pytest.raises(BridgeFull) as refused:
            asyncio.run(Readiness(hub).require())
    assert str(hub.home.root) not in str(refused.value)


def test_a_crowd_is_answered_by_one_look_in_a_thread_of_its_own(
    hub: InlineHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readyz, "SHARED_S", 60.0)

    async def story() -> None:
        shared = Readiness(hub)
        found = await asyncio.gather(
            *(shared.require() for _ in range(100)), return_exceptions=True
        )
        assert {str(each) for each in found} == {
            "not every shard would answer\n  See: autopoll status"
        }
        with pytest.raises(Down):
            await shared.require()

    play(story)
    assert disk.looks == 1
    assert threading.current_thread() not in disk.threads


def test_what_was_found_is_looked_up_again_when_its_time_is_over(
    hub: InlineHub, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readyz, "SHARED_S", 0.0)

    async def story() -> None:
        shared = Readiness(hub)
        with pytest.raises(Down):
            await shared.require()
        with ExitStack() as stack:
            live(stack, hub.home, "poller", "worker")
            await shared.require()

    play(story)
    assert disk.looks == 2


def test_a_disk_that_hangs_is_looked_at_once_whoever_gives_up_meanwhile(
    hub: InlineHub, disk: Disk
) -> None:
    disk.answers.clear()

    async def story() -> None:
        shared = Readiness(hub)
        first = asyncio.create_task(shared.require())
        await asyncio.to_thread(disk.begun.wait, 20)
        first.cancel()
        await asyncio.wait((first,))
        second = asyncio.create_task(shared.require())
        await asyncio.sleep(0)
        disk.answers.set()
        with pytest.raises(Down):
            await second

    play(story)
    assert disk.looks == 1
