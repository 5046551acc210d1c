"""Many who wait in one process: one connection, and nobody forgotten."""

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path

import msgspec
import pytest
from hand_poller import HandPoller
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.poller_protocol import LARGEST_ANSWER
from autopoll.bridge.protocols import Bridge, MessageStore
from autopoll.bridge.records import SURE_S, Answered, Arrival, QueryState
from autopoll.client.answer_pieces import AnswerPiece
from autopoll.client.availability import Blocked, Obstacle
from autopoll.client.client import Client
from autopoll.client.result import Result
from autopoll.errors import BridgeBusy, ConfigError, Down, NotFound
from autopoll.gateway import hub
from autopoll.gateway.hub import Hub, ShuttingDown
from autopoll.gateway.poller_thread import PollerThread
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.ops.init import prepare
from fifo.bell import Bell

HOUR_S = 3600.0


class Setting:
    """A home without processes, and a bridge of its own for whoever answers in it."""

    def __init__(self, home: Home, config: Config, bridge: Bridge) -> None:
        self.home, self.config, self.bridge = home, config, bridge

    def answer(self, text: str = "yes") -> None:
        """Answer everything that waits, without a word to anybody."""
        taken = self.bridge.deliveries.claim("owner", {"main": 1000}, 60_000)
        self.bridge.deliveries.settle(
            [
                Answered(message_id=each.message_id, fence=each.fence, answer=Answer(text=text))
                for each in taken
            ],
            "owner",
        )

    def run(self, story: Callable[[Hub], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(30), Hub(self.home, self.config) as open_hub:
                await story(open_hub)

        asyncio.run(main())


async def ask(open_hub: Hub, question: str) -> int:
    """Store a question of the home's own; return its number."""

    def arrival(client: Client) -> Arrival:
        return client.arrival(question, *client.own_session("main"))

    return (await open_hub.store(await open_hub.call(arrival))).id


async def off(use: Callable[[], None]) -> None:
    """Have the poller do something, while the loop goes on."""
    await asyncio.to_thread(use)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    home = prepared_home(tmp_path)
    config = load(home, {})
    with closing(connect(home, config)) as bridge, closing(Bell(home.bell)):
        yield Setting(home, config, bridge)


@pytest.fixture
def poller(setting: Setting) -> Iterator[HandPoller]:
    with HandPoller(setting.home) as poller:
        yield poller


@pytest.fixture
def slow_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "NET_S", HOUR_S)


def test_whoever_waits_is_given_the_answer_by_the_poller(
    setting: Setting, poller: HandPoller, slow_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        assert [each.message_id for each in poller.claimed] == [number]
        await off(poller.answer)  # before anybody waits
        monkeypatch.setattr(type(setting.bridge.messages), "query_state", None)
        result = await open_hub.outcome(number, HOUR_S)
        assert (result.status, result.answer, open_hub.waiting) == ("answered", "yes", 0)

    setting.run(story)


def test_nothing_of_a_wait_is_left_to_the_collector_which_would_wake_the_loop_again(
    setting: Setting, poller: HandPoller, slow_net: None
) -> None:
    left: list[str] = []

    async def story(open_hub: Hub) -> None:
        first, _ = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(first, lambda found: left.append(found.__qualname__))
        number = await ask(open_hub, "Really?")
        await off(poller.answer)
        await open_hub.outcome(number, HOUR_S)
        gc.collect()

    setting.run(story)
    assert left == []


def test_without_a_poller_whoever_waits_is_told_within_a_net(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        setting.answer()
        assert (await waiter).answer == "yes"

    setting.run(story)


def test_two_hundred_wait_over_one_connection(
    setting: Setting, poller: HandPoller, slow_net: None
) -> None:
    async def story(open_hub: Hub) -> None:
        numbers = await asyncio.gather(*(ask(open_hub, f"number {each}") for each in range(200)))
        waiters = [asyncio.create_task(open_hub.outcome(each, HOUR_S)) for each in numbers]
        while open_hub.waiting < 200:
            await asyncio.sleep(0)
        assert poller.run(lambda: len(poller.questions)) == 1
        await off(poller.answer)
        results = await asyncio.gather(*waiters)
        assert [each.status for each in results] == ["answered"] * 200
        assert {each.id for each in results} == set(numbers)

    setting.run(story)


def test_two_hundred_wait_while_the_poller_goes_and_another_one_comes(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        with HandPoller(setting.home) as first:
            numbers = [await ask(open_hub, f"number {each}") for each in range(200)]
            waiters = [asyncio.create_task(open_hub.outcome(each, HOUR_S)) for each in numbers]
            await off(lambda: first.run(first.questions.drain))
            numbers.append(await ask(open_hub, "while it drains"))
        numbers.append(await ask(open_hub, "while there is none"))
        with HandPoller(setting.home) as second:
            await off(lambda: second.run(second.turn))
            await off(second.answer)
            results = await asyncio.gather(*waiters)
            assert [each.answer for each in results] == ["yes"] * 200
            late = [await open_hub.outcome(number, HOUR_S) for number in numbers[200:]]
            assert [each.answer for each in late] == ["yes"] * 2
        assert len(setting.bridge.messages.find(kind="query", limit=1000)) == 202

    setting.run(story)


def test_a_follower_sees_each_change_once_and_then_the_result(
    setting: Setting, poller: HandPoller, slow_net: None
) -> None:
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
                    await off(poller.work)
                elif each.state == "leased":
                    await off(lambda: poller.fail("no"))
                else:
                    await off(lambda: poller.run(poller.turn))
                    await off(poller.answer)
        assert seen == ["sent", "leased", "ready", "answered"]

    setting.run(story)


def test_whoever_follows_pieces_is_given_all_of_them_however_late(
    setting: Setting, poller: HandPoller
) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        await off(lambda: poller.write("It is "))

        async def text() -> str:
            read = ""
            async with aclosing(open_hub.follow(number, pieces=True)) as news:
                async for each in news:
                    if isinstance(each, AnswerPiece):
                        read += each.text
                    if read.endswith("so."):
                        return read
            raise AssertionError(read)

        early = asyncio.create_task(text())
        while not open_hub.waiting:
            await asyncio.sleep(0)
        late = asyncio.create_task(text())
        while open_hub.waiting < 2:
            await asyncio.sleep(0)
        await off(lambda: poller.write("so."))
        assert await asyncio.gather(early, late) == ["It is so."] * 2

    setting.run(story)


def test_an_answer_too_long_for_the_socket_is_read_in_the_store(
    setting: Setting, poller: HandPoller, slow_net: None
) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiter = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        while not open_hub.waiting:
            await asyncio.sleep(0)
        long = "x" * (LARGEST_ANSWER + 1)
        await off(lambda: poller.answer(long))
        assert (await waiter).answer == long

    setting.run(story)


def test_a_question_is_asked_once_when_the_poller_hangs_and_wakes_again(
    setting: Setting, poller: HandPoller
) -> None:
    async def story(open_hub: Hub) -> None:
        await ask(open_hub, "connected?")
        awake = threading.Event()
        poller.stall(awake)
        number = await ask(open_hub, "hung?")
        awake.set()
        while number not in [each.message_id for each in poller.claimed]:
            await asyncio.sleep(0.01)
        assert len(setting.bridge.messages.find(kind="query")) == 2

    setting.run(story)


def test_a_question_is_asked_once_when_the_poller_dies_before_it_says_so(setting: Setting) -> None:
    async def story(open_hub: Hub) -> None:
        with HandPoller(setting.home) as first:
            first.questions.committed = lambda stored: None  # type: ignore[method-assign]
            asking = asyncio.create_task(ask(open_hub, "once?"))
            while not first.claimed:
                await asyncio.sleep(0.01)
            assert not asking.done()
            await off(first.kill)
        assert await asking == first.claimed[0].message_id
        assert len(setting.bridge.messages.find(kind="query")) == 1

    setting.run(story)


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
        setting.answer()
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
        setting.answer()
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
        setting.answer()
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


def test_nobody_waits_for_ever_when_a_bug_ends_the_link(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_link: PollerThread, _seconds: float) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(PollerThread, "wait", broken)

    async def story(open_hub: Hub) -> None:
        while not open_hub.crash:
            await asyncio.sleep(0.01)
        assert isinstance(open_hub.crash, ZeroDivisionError)
        with pytest.raises(ShuttingDown):
            await open_hub.outcome(await open_hub.call(stored), HOUR_S)

    def stored(client: Client) -> int:
        return client.ask(["Really?"], "main").ids[0]

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
        setting.answer()
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


def test_a_poller_that_accepts_nobody_holds_up_neither_a_question_nor_the_end(
    setting: Setting,
) -> None:
    arrival = Arrival(query_id="q-00000000", conversation="c", session="a", text="hung?")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
            mute.bind(str(setting.home.poller_socket))
            mute.listen()
            link = PollerThread(setting.home, lambda _: None)
            await asyncio.sleep(0.1)  # it waits for the greeting
            try:
                assert await asyncio.wait_for(link.ask(arrival), 20) is arrival
                await asyncio.sleep(0.1)
            finally:
                await asyncio.wait_for(link.close(), 20)

    asyncio.run(main())


def test_what_a_link_was_asked_that_a_bug_ends_is_left_to_the_store(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = Arrival(query_id="q-00000000", conversation="c", session="a", text="lost?")

    async def main() -> None:
        link = PollerThread(setting.home, lambda _: None)

        def broken(_arrivals: list[Arrival]) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(link, "store", broken)
        left = await asyncio.wait_for(link.ask(arrival), 20)
        assert isinstance(left, Arrival) and left.repeated, "it may have been sent"
        assert await asyncio.wait_for(link.ask(arrival), 20) is arrival
        await link.close()
        assert isinstance(link.running.exception(), ZeroDivisionError)

    asyncio.run(main())


def test_what_was_stored_without_the_poller_is_followed_when_there_is_one(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "NET_S", HOUR_S)

    async def story(open_hub: Hub) -> None:
        stored = await open_hub.store(await open_hub.call(arrival))
        with HandPoller(setting.home) as poller:
            waiting = asyncio.create_task(open_hub.outcome(stored.id, HOUR_S))
            while not poller.run(lambda: poller.questions._followers):
                await asyncio.sleep(0.01)
            poller.run(poller.turn)
            poller.answer()
            assert (await waiting).answer == "yes"

    def arrival(client: Client) -> Arrival:
        return client.arrival("how?", *client.own_session("main"))

    setting.run(story)


def test_what_is_asked_while_the_link_ends_is_left_to_the_store(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = Arrival(query_id="q-00000000", conversation="c", session="a", text="late?")

    async def main() -> None:
        link = PollerThread(setting.home, lambda _: None)
        monkeypatch.setattr(link, "_serve", lambda: None)  # it has served for the last time
        asked = asyncio.create_task(link.ask(arrival))
        await asyncio.sleep(0)
        await link.close()
        assert await asyncio.wait_for(asked, 20) is arrival

    asyncio.run(main())


def test_looks_for_long_answers_are_no_seconds_in_which_something_lasts(
    setting: Setting, slow_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting = Obstacle(what="main was stopped by hand", mend="Start it.", lasting=True)
    monkeypatch.setattr("autopoll.client.availability.obstacle", lambda *_: lasting)

    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        waiting = asyncio.create_task(open_hub.outcome(number, HOUR_S))
        for _ in range(2 * hub.DOWN_AFTER):
            open_hub._rung.set()
            while open_hub._rung.is_set():
                await asyncio.sleep(0)
            await open_hub.call(lambda _: None)  # after the look
        assert not waiting.done()
        waiting.cancel()

    setting.run(story)


def test_a_look_at_the_store_takes_back_nothing_that_the_poller_has_said_meanwhile(
    setting: Setting, slow_net: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(open_hub: Hub) -> None:
        number = await ask(open_hub, "Really?")
        async with aclosing(open_hub.follow(number)) as news:
            before = await anext(news)
            assert isinstance(before, QueryState)
            newer = msgspec.structs.replace(before, state="leased", attempts=2)

            async def stale(_: object) -> list[QueryState]:
                open_hub._tell(newer)
                return [msgspec.structs.replace(before, state="leased", attempts=1)]

            monkeypatch.setattr(open_hub, "call", stale)
            await open_hub._look()
            assert await anext(news) == newer
            monkeypatch.undo()

    setting.run(story)


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "is left"])
def test_what_a_bug_in_the_link_has_cut_off_is_stored_once(
    setting: Setting, poller: HandPoller, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    awake = threading.Event()
    sent: list[float] = []

    def broken(_seconds: float) -> bool:
        sent.append(time.monotonic())
        raise ZeroDivisionError

    async def main() -> None:
        async with asyncio.timeout(30), Hub(setting.home, setting.config) as open_hub:
            await ask(open_hub, "connected?")
            poller.stall(awake)
            monkeypatch.setattr(open_hub._link, "_receive", broken)
            asking = asyncio.create_task(ask(open_hub, "once?"))
            while not sent:
                await asyncio.sleep(0.01)
            if not leaves:
                await asking
        await asking
        assert time.monotonic() - sent[0] >= SURE_S, "the poller could store it unseen"

    asyncio.run(main())
    awake.set()
    poller.run(poller.turn)
    assert len(setting.bridge.messages.find(kind="query")) == 2
