"""Many who wait in one process: one bell, one connection, and nobody forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge, MessageStore
from autopoll.bridge.records import Answered, Failed, QueryState
from autopoll.client.availability import Blocked, Obstacle
from autopoll.client.result import Result
from autopoll.errors import BridgeBusy, ConfigError, Down, NotFound
from autopoll.gateway import hub
from autopoll.gateway.hub import Hub, ShuttingDown
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.message import Answer, read_envelope
from autopoll.ops.init import prepare
from fifo.bell import Bell, ring

CONF = "[unix_http_server]\nfile = %(here)s/../s.sock\n"
HOUR_S = 3600.0


class Setting:
    """A home without processes, and a bridge of its own for whoever answers in it."""

    def __init__(self, home: Home, config: Config, bridge: Bridge) -> None:
        self.home, self.config, self.bridge = home, config, bridge

    def answer(self, open_hub: Hub | None, text: str = "yes") -> None:
        """Answer everything that waits, and ring, as the poller does; or do not ring."""
        taken = self.bridge.deliveries.claim("owner", {"main": 1000}, 60_000)
        self.bridge.deliveries.settle(
            [
                Answered(message_id=each.message_id, fence=each.fence, answer=Answer(text=text))
                for each in taken
            ]
        )
        if open_hub:
            ring(self.home.waiters / f"{open_hub.name}.fifo")

    def run(self, story: Callable[[Hub], Awaitable[None]], name: str | None = None) -> None:
        async def main() -> None:
            async with asyncio.timeout(30), Hub(self.home, self.config, name) as open_hub:
                await story(open_hub)

        asyncio.run(main())


async def ask(open_hub: Hub, question: str) -> int:
    """Store a question of the home's own, whose answer rings the hub; return its number."""
    stored = await open_hub.call(lambda client: client.ask([question], "main", waiter=open_hub))
    return stored.ids[0]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    home = Home(tmp_path)
    home.config.write_text('[shards.main]\nbackend = "echo"\n')
    home.supervisord_conf.parent.mkdir()
    home.supervisord_conf.write_text(CONF)
    config = load(home, {})
    prepare(home, config)
    with closing(connect(home, config)) as bridge, closing(Bell(home.bell)):
        yield Setting(home, config, bridge)


@pytest.fixture
def slow_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "NET_S", HOUR_S)


def test_whoever_waits_is_told_at_the_ring(setting: Setting, slow_net: None) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        setting.answer(open_hub)
        result = await waiter
        assert (result.status, result.answer, open_hub.waiting) == ("answered", "yes", 0)

    setting.run(story)


def test_whoever_is_not_rung_is_told_within_a_net(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        setting.answer(None)
        assert (await waiter).answer == "yes"

    setting.run(story)


def test_two_hundred_wait_and_a_ring_costs_few_looks(
    setting: Setting, slow_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(open_hub: Hub) -> None:
        numbers = [await ask(open_hub, f"number {each}") for each in range(200)]
        waiters = [asyncio.create_task(open_hub.outcome(each, HOUR_S)) for each in numbers]
        # Only when each has had its first look do they all depend on the ring.
        looked = 0

        def count(messages: MessageStore, ids: list[int]) -> list[QueryState]:
            nonlocal looked
            looked += 1
            return original(messages, ids)

        store_type = type(setting.bridge.messages)
        original = store_type.query_states
        monkeypatch.setattr(store_type, "query_states", count)
        while open_hub.waiting < 200:
            await asyncio.sleep(0)
        await open_hub.call(lambda service: None)  # behind their first looks in the thread
        setting.answer(open_hub)
        results = await asyncio.gather(*waiters)
        assert [each.status for each in results] == ["answered"] * 200
        assert {each.id for each in results} == set(numbers)
        assert 1 <= looked <= 2

    setting.run(story)


def test_a_follower_sees_each_change_once_and_then_the_result(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        seen: list[str] = []
        async with aclosing(open_hub.follow(number)) as news:
            async for each in news:
                if isinstance(each, Result):
                    seen.append(each.status)
                    continue
                seen.append(each.state)
                if each.state == "sent":
                    [delivery] = setting.bridge.deliveries.claim("owner", {"main": 1}, 60_000)
                    ring(setting.home.waiters / f"{open_hub.name}.fifo")
                elif each.state == "leased":
                    failed = Failed(message_id=number, fence=delivery.fence, error="no", wait_ms=0)
                    setting.bridge.deliveries.settle([failed])
                    ring(setting.home.waiters / f"{open_hub.name}.fifo")
                else:
                    setting.answer(open_hub)
        assert seen == ["sent", "leased", "ready", "answered"]

    setting.run(story)


def test_the_next_process_hears_of_what_the_one_before_had_asked(
    setting: Setting, slow_net: None
) -> None:
    numbers: list[int] = []

    async def first(open_hub: Hub) -> None:
        numbers.append(await ask(open_hub, "Really?"))

    async def second(open_hub: Hub) -> None:
        waiter = asyncio.create_task(open_hub.outcome(numbers[0], HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        await open_hub.call(lambda service: None)
        [delivery] = setting.bridge.deliveries.claim("owner", {"main": 1}, 60_000)
        assert read_envelope(delivery.metadata).waiter == open_hub.name
        answer = Answer(text="to you")
        outcome = Answered(message_id=numbers[0], fence=delivery.fence, answer=answer)
        [settled] = setting.bridge.deliveries.settle([outcome])
        ring(setting.home.waiters / f"{settled.waiter}.fifo")
        assert (await waiter).answer == "to you"

    setting.run(first, "gateway")
    setting.run(second, "gateway")


def test_who_waits_is_sent_away_when_the_process_ends_and_the_question_stays(
    setting: Setting,
) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        open_hub.drain()
        with pytest.raises(ShuttingDown):
            await waiter
        with pytest.raises(ShuttingDown):  # and whoever comes late
            await open_hub.outcome(number, HOUR_S)
        assert setting.bridge.messages.query_state(number).state == "sent"
        setting.answer(open_hub)
        assert (
            await open_hub.outcome(number, HOUR_S)
        ).answer == "yes"  # what is known is still told

    setting.run(story)


def test_who_waits_is_told_when_nobody_is_there_to_answer(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NET_S", 0.01)

    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        setting.home.bell.unlink()
        with pytest.raises(Down, match="kept"):
            await open_hub.outcome(number, HOUR_S)

    setting.run(story)


def test_who_waits_is_told_what_needs_somebodys_help_and_others_wait_on(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NET_S", 0.01)
    stopped = Obstacle(what="worker was stopped by hand", mend="Start it: x", lasting=True)
    found = {None: None, "main": stopped}
    monkeypatch.setattr(hub.availability, "obstacle", lambda _home, _config, shard: found[shard])

    async def story(open_hub: Hub) -> None:
        first = await ask(open_hub, "Really?")
        setting.bridge.deliveries.claim(
            "owner", {"main": 1}, 60_000
        )  # from now on its shard is known
        second = await ask(open_hub, "Truly?")
        other = asyncio.create_task(open_hub.outcome(second, HOUR_S))
        with pytest.raises(Blocked, match=f"stopped by hand: question {first} is kept"):
            await open_hub.outcome(first, HOUR_S)
        assert not other.done()
        found["main"] = None
        setting.answer(open_hub)
        assert (await other).answer == "yes"

    setting.run(story)


def test_what_cannot_be_found_out_sends_nobody_away(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NET_S", 0.01)
    looks = 0

    def unknown(*_: object) -> None:
        nonlocal looks
        looks += 1
        raise ConfigError("conf/supervisord.conf cannot be read")

    monkeypatch.setattr(hub.availability, "obstacle", unknown)

    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while looks < 5:
            await asyncio.sleep(0.01)
        setting.answer(None)
        assert (await waiter).answer == "yes"

    setting.run(story)


def test_the_wait_ends_at_its_time_and_who_went_away_is_forgotten(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        assert (await open_hub.outcome(number, 0.05)).status == "pending"
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert open_hub.waiting == 0
        with pytest.raises(NotFound, match="no message 999"):
            await open_hub.outcome(999, HOUR_S)
        assert open_hub.waiting == 0

    setting.run(story)


def test_nobody_waits_for_ever_when_a_bug_ends_the_looking(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_messages: MessageStore, _ids: list[int]) -> list[QueryState]:
        raise ZeroDivisionError

    monkeypatch.setattr(type(setting.bridge.messages), "query_states", broken)

    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        with pytest.raises(ShuttingDown):
            await open_hub.outcome(number, HOUR_S)
        assert isinstance(open_hub.crash, ZeroDivisionError)

    setting.run(story)


def test_trouble_with_the_store_passes_and_whoever_waits_goes_on_waiting(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NET_S", 0.01)
    looks = 0

    def busy(messages: MessageStore, ids: list[int]) -> list[QueryState]:
        nonlocal looks
        looks += 1
        if looks < 5:
            raise BridgeBusy("locked")
        return original(messages, ids)

    store_type = type(setting.bridge.messages)
    original = store_type.query_states
    monkeypatch.setattr(store_type, "query_states", busy)

    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not looks:  # whoever waits has looked by itself before, and found no answer
            await asyncio.sleep(0)
        setting.answer(None)
        assert (await waiter).answer == "yes"
        assert looks >= 5

    setting.run(story)


def test_a_hub_whose_database_was_replaced_asks_in_the_one_that_others_find(
    setting: Setting,
) -> None:
    async def story(open_hub: Hub) -> None:
        assert await ask(open_hub, "Before?") == 1
        path = setting.home.var / "bridge.db"
        path.rename(setting.home.var / "before.db")
        for ending in ("-wal", "-shm"):
            path.with_name(f"{path.name}{ending}").unlink()
        prepare(setting.home, setting.config)
        assert await ask(open_hub, "After?") == 1
        with closing(connect(setting.home, setting.config)) as found:
            assert "After?" in found.messages.find()[0].text

    setting.run(story)
