"""Several bridges write to one database at the same time."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
from answerers import answerer
from bridge_calls import OWN, answered, ask, claim, costing, settle, talk

from autopoll.bridge.protocols import Bridge
from autopoll.errors import AlreadyRunning, AutopollError
from autopoll.request import Usage

TIMES = 8


@pytest.fixture
def bridges(server, name, open_bridge) -> tuple[Bridge, Bridge]:
    return open_bridge(server.url(name)), open_bridge(server.url(name))


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Make calls in a thread each, begun together; return their results, or what they raised."""
    results: list[object] = [None] * len(calls)
    begin = threading.Barrier(len(calls))

    def run(place: int, call: Callable[[], object]) -> None:
        begin.wait()
        try:
            results[place] = call()
        except AutopollError as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def test_settles_of_several_hosts_that_charge_the_same_shards_do_not_stop_each_other(
    bridges,
) -> None:
    one, two = bridges
    talks = {shard: talk(one, shard=shard) for shard in ("s1", "s2")}
    usage = Usage(input_tokens=1, output_tokens=1)
    for _ in range(TIMES):
        for conversation in talks.values():
            ask(one, conversation, *["?"] * 6, metadata=OWN)
        held = {
            bridge: one.deliveries.claim(owner, {"s1": 3, "s2": 3}, 60_000)
            for bridge, owner in ((one, "one"), (two, "two"))
        }
        outcomes = {
            bridge: [costing(answered(each), usage) for each in claimed]
            for bridge, claimed in held.items()
        }
        results = at_once(
            partial(one.deliveries.settle, outcomes[one], "one"),
            partial(two.deliveries.settle, outcomes[two][::-1], "two"),
        )
        assert [len(each) if isinstance(each, list) else each for each in results] == [6, 6]
    assert {shard: spent.answers for shard, spent in one.overview.spent().items()} == {
        "s1": 6 * TIMES,
        "s2": 6 * TIMES,
    }


@pytest.mark.long
def test_a_reap_and_a_late_settle_of_many_do_not_stop_each_other(bridges, server, name) -> None:
    one, two = bridges
    conversation = talk(one)
    for _ in range(TIMES):
        ask(one, conversation, *["?"] * 100, metadata=OWN)
        held = claim(one, count=100)
        server.run_sql(
            "UPDATE autopoll.deliveries SET lease_until=1 WHERE state='leased'", database=name
        )
        outcomes = [answered(each) for each in reversed(held)]
        results = at_once(partial(one.deliveries.settle, outcomes, "me"), two.deliveries.reap)
        assert [each for each in results if isinstance(each, AutopollError)] == []
        for each in claim(one, count=100):
            settle(one, answered(each))
    answers = one.messages.find(conversation=conversation, session="a", limit=10_000)
    assert len(answers) == 100 * TIMES


def test_of_two_copies_of_a_home_that_start_at_once_one_is_refused(bridges) -> None:
    one, two = bridges
    for number in range(TIMES):
        home = f"{number:032x}"
        results = at_once(
            partial(one.deliveries.take_over, answerer(f"a{number}", home=home), 60_000),
            partial(
                two.deliveries.take_over, answerer(f"b{number}", home=home, host="there"), 60_000
            ),
        )
        assert sorted(type(each).__name__ for each in results) == [AlreadyRunning.__name__, "int"]


def test_large_messages_are_taken_in_as_many_turns_as_they_need(bridges) -> None:
    one, _ = bridges
    conversation = talk(one)
    large = "x" * (7 << 20)
    ids = [ask(one, conversation, large, metadata=OWN)[0] for _ in range(5)]
    turns = []
    while held := claim(one, count=10):
        turns.append([each.message_id for each in held])
    assert [number for each in turns for number in each] == ids
    assert len(turns) > 1
