"""Askers follow their own home's poller, whichever home answers."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.bridge.records import BridgeLimits, QueryState
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.client.result import Result
from autopoll.errors import BridgeUnavailable
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.poller import answers_elsewhere
from autopoll.poller import poller as poller_module
from autopoll.poller.answers_elsewhere import AnswersElsewhere
from autopoll.poller.outcomes import answered
from autopoll.poller.poller import Poller
from autopoll.process.heartbeat_writer import Heart

SHARED = "[shards.main]\nbackend = 'echo'\n[bridge]\nurl = 'postgresql://db'\n"


class Questions:
    """What is followed here, and what followers were told."""

    def __init__(self, *followed: int) -> None:
        self.followed = list(followed)
        self.looked_up: list[list[int]] = []
        self.told: list[int] = []
        self.here: list[int] = []
        self.woken = 0

    def seen(self, query: QueryState) -> None:
        self.told.append(query.message_id)

    def leases(self) -> list[tuple[int, int]]:
        return [(each, 1) for each in self.here]

    def query_states(self, ids: list[int]) -> list[QueryState]:
        self.looked_up.append(ids)
        return [
            QueryState(
                message_id=each, conversation="c", session="b", state="ready", shard="main",
                attempts=0, last_error=None, answer=None, enrolled_at=1, settled_at=None,
            )
            for each in ids
        ]  # fmt: skip

    def wake(self) -> None:
        self.woken += 1

    def elsewhere(self, *, shared: bool = True) -> AnswersElsewhere:
        return AnswersElsewhere(self, self, self.wake, shared=shared)  # type: ignore[arg-type]


def turn(elsewhere: AnswersElsewhere, questions: Questions) -> None:
    elsewhere.look_up(questions)  # type: ignore[arg-type]


def test_a_store_of_our_own_is_looked_up_after_a_foreign_write_and_not_again_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = Questions(1)
    elsewhere = questions.elsewhere(shared=False)
    elsewhere.check()
    turn(elsewhere, questions)
    assert questions.looked_up == []
    for _ in range(3):
        elsewhere.expect()
        turn(elsewhere, questions)
    assert questions.looked_up == [[1]]
    later = time.monotonic() + answers_elsewhere.REST_S
    monkeypatch.setattr(answers_elsewhere.time, "monotonic", lambda: later)
    for _ in range(2):
        elsewhere.check()
        turn(elsewhere, questions)
    assert questions.looked_up == [[1], [1]]


def test_nothing_is_looked_up_for_nobody() -> None:
    questions = Questions()
    elsewhere = questions.elsewhere()
    elsewhere.expect()
    turn(elsewhere, questions)
    assert (questions.looked_up, questions.woken) == ([], 0)


def test_what_is_in_flight_here_is_not_looked_up_and_the_rest_once_for_each_event() -> None:
    questions = Questions(1, 2, 3)
    questions.here = [2]
    elsewhere = questions.elsewhere()
    turn(elsewhere, questions)
    assert questions.looked_up == []
    elsewhere.expect()
    elsewhere.expect()
    turn(elsewhere, questions)
    turn(elsewhere, questions)
    assert (questions.looked_up, questions.told) == ([[1, 3]], [1, 3])


def test_many_are_looked_up_over_several_turns_and_what_comes_meanwhile_begins_another_round() -> (
    None
):
    questions = Questions(*range(450))
    elsewhere = questions.elsewhere()
    elsewhere.expect()
    turn(elsewhere, questions)
    elsewhere.expect()
    while questions.woken:
        questions.woken = 0
        turn(elsewhere, questions)
    assert [len(ids) for ids in questions.looked_up] == [200, 200, 50] * 2


def test_a_store_that_cannot_be_reached_meanwhile_is_asked_with_the_next_event() -> None:
    questions = Questions(1)

    class Away:
        def query_states(self, _ids: list[int]) -> list[QueryState]:
            raise BridgeUnavailable("the server does not answer")

    elsewhere = questions.elsewhere()
    elsewhere.expect()
    with pytest.raises(BridgeUnavailable):
        elsewhere.look_up(Away())  # type: ignore[arg-type]
    elsewhere.expect()
    turn(elsewhere, questions)
    assert questions.told == [1]


class TwoHomes:
    """A home that asks, whose poller has no worker, and another owner on the same store."""

    def __init__(self, home: Home, bridge: SqliteBridge, other: SqliteBridge) -> None:
        self.home = home
        self.bridge = bridge
        self.other = other
        self.config = load(home, {})

    def run(self, use: Callable[[], Result]) -> Result:
        """Return what is returned beside the running poller."""

        async def both() -> Result:
            self.home.config.write_text(SHARED)
            with Heart.open(self.home.beats, "poller", "poller") as heart:
                poller = Poller(self.home, load(self.home, {}), self.bridge, heart)
                running = asyncio.create_task(poller.run())
                try:
                    async with asyncio.timeout(20):
                        return await asyncio.to_thread(use)
                finally:
                    poller.stop()
                    await running

        return asyncio.run(both())

    def answer(self, text: str) -> None:
        """Take the one question, and answer it, as the poller of another home."""
        [delivery] = self.other.deliveries.claim("another home", {"main": 9}, 60_000)
        self.other.deliveries.settle([answered(delivery, Answer(text=text))], "another home")


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[TwoHomes]:
    home = prepared_home(tmp_path)
    path = home.var / "bridge.db"
    with (
        closing(SqliteBridge(path, BridgeLimits())) as bridge,
        closing(SqliteBridge(path, BridgeLimits())) as other,
    ):
        yield TwoHomes(home, bridge, other)


@pytest.mark.parametrize("every_s", [0.2, 3600.0])
def test_an_asker_is_told_what_another_home_has_answered_by_the_watch_or_by_the_check(
    homes: TwoHomes, monkeypatch: pytest.MonkeyPatch, every_s: float
) -> None:
    monkeypatch.setattr(poller_module, "CHECK_S", every_s)
    if every_s < 1:
        monkeypatch.setattr("autopoll.poller.foreign_writes.ForeignWrites.check", lambda _: None)

    def ask() -> Result:
        client = Client(homes.home, homes.config, homes.other)
        with PollerConnection(homes.home) as connection:
            while not connection.is_open:
                connection.wait(0.01)
            asked = client.ask(["how?"], "main", connection=connection)
            assert connection.is_open
            homes.answer("so, elsewhere")
            # By the poller alone: the store is not looked at.
            monkeypatch.setattr(type(homes.other.messages), "query_state", None)
            [result] = client.wait(asked.ids, connection, timeout=10)
            return result

    assert homes.run(ask).answer == "so, elsewhere"
