"""One question is given up without a claim on what others have asked the shard."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bridge_calls import OWN, answered, ask
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.errors import AutopollError
from autopoll.home.config import load
from autopoll.ops.shards import give_up
from autopoll.ops.shards.give_up import give_up_one
from autopoll.poller import outcomes


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Bridge]:
    home = prepared_home(tmp_path)
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


def asked(bridge: Bridge, shard: str) -> int:
    conversation = bridge.conversations.create("one", "other").conversation
    bridge.conversations.serve(conversation, "b", shard)
    [number] = ask(bridge, conversation, "why?", metadata=OWN)
    return number


def test_a_question_that_is_still_leased_is_given_up_when_its_lease_has_ended(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(give_up, "STEP_S", 0.0)
    number = asked(bridge, "new")
    leased = bridge.deliveries.claim("worker", {"new": 1}, 60_000)
    theirs = asked(bridge, "new")
    reports = []

    def report(line: str) -> None:
        reports.append(line)
        bridge.deliveries.settle([outcomes.released(each) for each in leased], "worker")

    give_up_one(bridge, number, "new", "it could not be added", report)
    assert reports == [f"question {number}: about to be tried again, waiting for that"]
    state = bridge.messages.query_state(number)
    assert (state.state, state.answer and "it could not be added" in state.answer.text) == (
        "done",
        True,
    )
    assert bridge.overview.dead_letters() == []
    assert bridge.conversations.shard_of(state.conversation, "b") == "new"
    [claimed] = bridge.deliveries.claim("them", {"new": 9}, 60_000)
    assert (claimed.message_id, claimed.fence) == (theirs, 1)


def test_a_question_that_cannot_be_given_up_in_time_waits_for_its_shard_again(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(give_up, "LATEST_S", -1.0)
    number = asked(bridge, "new")
    [leased] = bridge.deliveries.claim("worker", {"new": 1}, 60_000)
    with pytest.raises(AutopollError, match=f"question {number} cannot be settled") as refused:
        give_up_one(bridge, number, "new", "it could not be added", print)
    assert "autopoll shards remove new --force" in refused.value.mend
    bridge.deliveries.settle([outcomes.released(leased)], "worker")
    assert bridge.overview.waiting() == {"new": 1}


def test_a_question_that_was_answered_and_removed_is_not_given_up(bridge: Bridge) -> None:
    number = asked(bridge, "new")
    [claimed] = bridge.deliveries.claim("worker", {"new": 1}, 60_000)
    bridge.deliveries.settle([answered(claimed)], "worker")
    assert bridge.retention.remove([number]) == 1
    give_up_one(bridge, number, "new", "it could not be added", pytest.fail)
    assert bridge.conversations.shard_of(claimed.conversation, "b") == "new"
