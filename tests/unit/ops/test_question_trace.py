"""What `trace` composes of the bridge, the incident log and the heartbeats."""

import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from bridge_calls import (
    OWN,
    USED,
    answered,
    arrival,
    ask,
    claim,
    claim_one,
    costing,
    failed,
    released,
    settle,
    stored,
    talk,
    turn,
)  # fmt: skip
from prepared_home import prepared_home

from autopoll.bridge.attempt_record import KEPT, AttemptTimes
from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Outcome
from autopoll.errors import NotFound
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops import question_trace
from autopoll.ops.question_trace import QuestionTrace, for_asker
from autopoll.process import incident_log, manual_pause
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart

PID = 4711


@pytest.fixture
def home(tmp_path) -> Home:
    return prepared_home(tmp_path)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


def trace(home: Home, bridge: Bridge, number: int) -> QuestionTrace:
    return question_trace.trace(home, load(home, {}), bridge, number)


def states(found: QuestionTrace) -> list[str]:
    return [each.state for each in found.events]


def timed(outcome: Outcome, worker: str = "worker", pid: int = PID) -> Outcome:
    """Add who made the attempt: claimed 40 ms ago, and over for 10."""
    now = time.monotonic()
    times = AttemptTimes(
        worker=worker, pid=pid, claimed=now - 0.04, sent=now - 0.03, begun=now - 0.02,
        piece=now - 0.015, ended=now - 0.01,
    )  # fmt: skip
    return msgspec.structs.replace(outcome, times=times)


def record(home: Home, process: str, pid: int = 0, verdict: str = "hung-request") -> None:
    incident_log.record(
        home.incidents, process=process, verdict=verdict, action="killed", evidence="seen", pid=pid
    )


def test_two_attempts_and_the_verdict_in_between_are_in_order(home: Home, bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    first = claim_one(bridge)
    time.sleep(0.05)  # not to be claimed before it was enrolled
    record(home, "worker", PID)
    time.sleep(0.002)
    settle(bridge, timed(costing(failed(first), USED)))
    second = claim_one(bridge)
    time.sleep(0.05)
    settle(bridge, timed(costing(answered(second), USED), pid=PID + 1))
    found = trace(home, bridge, number)
    way = ["claimed", "dispatched", "progress", "progress"]
    assert [each for each in states(found) if each != "incident"] == [
        "sent", "enrolled", *way, "failed", *way, "answered",
    ]  # fmt: skip
    incident = next(each for each in found.events if each.state == "incident")
    assert (incident.process, incident.verdict, incident.pid) == ("worker", "hung-request", PID)
    assert states(found).index("incident") < states(found).index("failed")
    assert [(each.pid, each.attempt) for each in found.events if each.state == "dispatched"] == [
        (PID, 1), (PID + 1, 2),
    ]  # fmt: skip
    assert found.usage is not None and found.usage.input_tokens == 2 * USED.input_tokens
    assert found.usage.cost_usd == 1.0
    assert (found.state, found.attempts, found.waits, found.notes) == ("answered", 2, [], [])
    assert f"by message {found.answer_id}; " in found.events[-1].detail
    assert [each.hop for each in found.hops if each.attempt == 2] == [
        "wait", "dispatch", "begin", "first piece", "work", "store",
    ]  # fmt: skip
    times = [each.at for each in found.events]
    assert times == sorted(times)


def test_only_what_concerns_a_question_is_shown_with_it(home: Home, bridge: Bridge) -> None:
    record(home, "worker", verdict="before")
    time.sleep(0.002)
    (number,) = ask(bridge, talk(bridge), "why?")
    held = claim_one(bridge)
    for process in ("poller", "watchdog", "supervisord", "worker-docs-1", "gateway", "shard main"):
        record(home, process)
    settle(bridge, timed(failed(held, permanent=True)))
    time.sleep(0.002)
    record(home, "worker", PID, verdict="dead")  # found late, of the very process
    record(home, "worker", PID + 1, verdict="after")
    found = trace(home, bridge, number)
    seen = [(each.process, each.verdict) for each in found.events if each.state == "incident"]
    hung = "hung-request"
    assert seen == [
        ("poller", hung), ("watchdog", hung), ("supervisord", hung), ("shard main", hung),
        ("worker", "dead"),
    ]  # fmt: skip
    (later,) = ask(bridge, talk(bridge), "and now?")
    settle(bridge, timed(answered(claim_one(bridge)), pid=PID + 2))
    time.sleep(0.002)
    record(home, "worker", PID + 2, verdict="dead")  # with its answer given
    assert "incident" not in states(trace(home, bridge, later))
    asker = for_asker(found)
    assert "incident" not in states(asker)
    assert not any(each.pid or each.worker or each.home for each in asker.events)
    assert not any("worker" in each.detail for each in asker.events)


def test_a_question_under_way_names_its_worker(home: Home, bridge: Bridge) -> None:
    [sent] = turn(bridge, arrival(talk(bridge), "why?")).stored
    number = stored(sent).id
    with Heart.open(home.beats, "worker", "worker") as heart:
        heart.begin(3, 1e9, number)
        found = trace(home, bridge, number)
        assert states(found) == ["sent", "enrolled", "claimed", "progress"]
        last = found.events[-1]
        assert (last.worker, last.attempt) == ("worker", 1)
        [wait] = found.waits
        assert wait.startswith(f"worker (pid {last.pid}) works on it")
    found = trace(home, bridge, number)
    assert states(found) == ["sent", "enrolled", "claimed"]
    assert "its poller is gone" in found.waits[0]


def test_what_waits_says_what_for(home: Home, bridge: Bridge) -> None:
    conversation = talk(bridge)
    first, second = ask(bridge, conversation, "1", "2")
    assert trace(home, bridge, first).waits == ["this home is down. Start it: autopoll up"]
    held = claim_one(bridge)
    behind = trace(home, bridge, second)
    assert behind.waits[0].startswith(f"it comes after {first} of the same conversation")
    settle(bridge, failed(held, 60_000))
    again = trace(home, bridge, first)
    assert again.waits[0].startswith("it is tried again at ")
    assert again.waits[0].endswith(" s: it broke")
    manual_pause.begin(home, "main", "ann", "new notes", None)
    [_, paused, *_] = trace(home, bridge, first).waits
    assert paused.startswith("shard main is paused: by ann since ")


def test_busy_workers_are_named_with_what_they_do(home: Home, bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?", metadata=OWN)
    with (
        Heart.open(home.beats, "poller", "poller") as poller,
        Heart.open(home.beats, "worker", "worker") as heart,
    ):
        poller.state = heart.state = ProcessState.IDLE
        assert trace(home, bridge, number).waits == []  # about to be enrolled
        heart.begin(1, 1e9, 99)
        assert trace(home, bridge, number).waits == [
            "the workers of shard main are busy: worker with question 99"
        ]
        heart.state = ProcessState.DRAINING
        assert trace(home, bridge, number).waits == ["no worker of shard main is ready"]


def test_a_worker_that_is_free_beside_one_that_drains_is_not_called_busy(
    home: Home, bridge: Bridge
) -> None:
    home.config.write_text('[shards.main]\nbackend = "echo"\ninstances = 2\n')
    (number,) = ask(bridge, talk(bridge), "why?")
    with (
        Heart.open(home.beats, "poller", "poller") as poller,
        Heart.open(home.beats, "worker", "worker") as draining,
        Heart.open(home.beats, "worker-main-2", "worker") as free,
    ):
        poller.state = free.state = ProcessState.IDLE
        draining.begin(1, 1e9, 99)
        draining.state = ProcessState.DRAINING
        assert trace(home, bridge, number).waits == []


def test_messages_that_no_shard_answers_say_so(home: Home, bridge: Bridge) -> None:
    (lonely,) = ask(bridge, talk(bridge, None), "anybody?")
    found = trace(home, bridge, lonely)
    assert (found.state, found.shard, found.attempts) == ("sent", None, 0)
    assert found.waits[0].startswith("no shard answers session b of this conversation")
    conversation = talk(bridge)
    (number,) = ask(bridge, conversation, "why?")
    bridge.messages.receive(conversation, "b")
    assert trace(home, bridge, number).waits == ["it is marked as read, so nobody answers it"]


def test_a_shard_that_is_nobodys_is_named_with_its_mend(home: Home, bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge, "gone"), "why?")
    assert trace(home, bridge, number).waits == [
        "no home has a shard gone. Add it: autopoll shards add gone"
    ]


def test_an_answer_leads_to_its_question(home: Home, bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, answered(claim_one(bridge)))
    answer = trace(home, bridge, number).answer_id
    assert answer is not None
    found = trace(home, bridge, answer)
    assert (found.answer_to, found.waits) == (number, [])
    assert found.notes == [f"this is the answer to question {number}: trace that"]


def test_a_dead_letter_says_what_became_of_it(home: Home, bridge: Bridge) -> None:
    numbers = ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    for each in claim(bridge):
        settle(bridge, failed(each, permanent=True))
    fresh = bridge.overview.retry_dead(numbers[0])
    time.sleep(0.002)
    bridge.overview.drop_dead(numbers[1])
    retried, dropped = (trace(home, bridge, number) for number in numbers)
    assert states(retried)[-2:] == ["dead", "retried"]
    assert retried.events[-1].detail == f"asked again as {fresh}"
    assert (retried.retried_as, retried.events[-2].detail) == (fresh, "it broke")
    assert states(dropped)[-2:] == ["dead", "dropped"]
    again = trace(home, bridge, fresh)
    assert again.retry_of == numbers[0]
    assert again.events[0].detail.endswith(f", again for {numbers[0]}")


def test_what_an_earlier_version_has_answered_is_shown_as_far_as_it_is_known(
    home: Home, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    monkeypatch.setattr("autopoll.bridge.sql.outcome_rules.with_record", lambda *_: None)
    settle(bridge, failed(claim_one(bridge)))
    settle(bridge, answered(claim_one(bridge)))
    found = trace(home, bridge, number)
    assert states(found) == ["sent", "enrolled", "answered"]
    assert found.events[-1].detail == f"by message {found.answer_id}"
    [note] = found.notes
    assert note.startswith("of 2 of its 2 attempts nothing is known")


def test_what_was_cancelled_says_by_whom(
    home: Home, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    monkeypatch.setattr("autopoll.bridge.sql.outcome_rules.with_record", lambda *_: None)
    ended = msgspec.structs.replace(
        failed(claim_one(bridge), permanent=True), error="Cancelled by ann"
    )
    settle(bridge, ended)
    found = trace(home, bridge, number)
    assert (found.state, found.events[-1].state) == ("cancelled", "cancelled")
    assert (found.events[-1].detail, found.notes) == ("Cancelled by ann", [])


def test_attempts_that_were_given_back_do_not_count_as_missing(home: Home, bridge: Bridge) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    for _ in range(KEPT + 2):
        settle(bridge, timed(released(claim_one(bridge))))
    settle(bridge, timed(answered(claim_one(bridge))))
    found = trace(home, bridge, number)
    assert (found.attempts, found.notes) == (1, [])
    given = [each for each in found.events if each.state == "released"]
    assert given[0].detail == "given back: the attempt does not count"


def test_an_attempt_whose_poller_died_is_told_without_its_worker(
    home: Home, bridge: Bridge
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    bridge.deliveries.claim("me", {"main": 1}, 1)
    time.sleep(0.01)
    bridge.deliveries.reap()
    settle(bridge, timed(answered(claim_one(bridge))))
    found = trace(home, bridge, number)
    assert "who made an attempt is not known where its poller was gone before its end" in (
        found.notes
    )
    assert [each.detail for each in found.events if each.state == "failed"] == ["the lease expired"]


def test_what_one_commit_does_is_shown_in_order_and_a_clock_that_was_set_back_as_it_is(
    home: Home, bridge: Bridge
) -> None:
    (number,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, timed(answered(claim_one(bridge))))  # claimed before it was enrolled, it says
    times = [each.at for each in trace(home, bridge, number).events]
    assert times == sorted(times)
    (number,) = ask(bridge, talk(bridge), "why?")
    late = timed(answered(claim_one(bridge)))
    assert late.times is not None
    long_ago = msgspec.structs.replace(late.times, claimed=late.times.claimed - 60)
    settle(bridge, msgspec.structs.replace(late, times=long_ago))
    enrolled, claimed = (each.at for each in trace(home, bridge, number).events[1:3])
    assert claimed < enrolled


def test_there_is_no_trace_of_what_is_not_there(home: Home, bridge: Bridge) -> None:
    with pytest.raises(NotFound):
        trace(home, bridge, 10**9)
