"""When an error of the store ends the poller, and when what failed is tried again."""

import logging

import pytest

from autopoll.bridge.records import LONGEST_CALL_S
from autopoll.errors import BridgeBusy, BridgeError, BridgeFull, BridgeUnavailable
from autopoll.poller import outages as module
from autopoll.poller.outages import Outages
from autopoll.poller.poller import CHECK_S
from autopoll.process.verdict import Thresholds


def no_beat() -> None:
    raise AssertionError("a beat after a step that took no time")


def fail(outages: Outages, step: str, error: BridgeError) -> None:
    with outages.tolerated(step):
        raise error


@pytest.mark.parametrize("kind", [BridgeBusy, BridgeFull, BridgeUnavailable])
def test_a_store_that_never_worked_ends_the_poller_unless_that_can_pass(
    kind: type[BridgeError],
) -> None:
    outages = Outages(no_beat, lambda: None)
    fail(outages, "claim", kind("it is not to be used now", "Wait."))
    assert outages.reason == "it is not to be used now"
    with pytest.raises(BridgeError, match="it is damaged"):
        fail(outages, "claim", BridgeError("it is damaged", "Mend it."))


def test_each_step_that_fails_is_reported_once_until_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    outages = Outages(no_beat, lambda: None)
    outages.has_served = True
    for _ in range(3):
        fail(outages, "claim", BridgeError("it is damaged", "Mend it."))
    fail(outages, "renew", BridgeError("it is gone", "Look for it."))
    assert len(caplog.records) == 2
    with outages.tolerated("claim"):
        pass
    assert outages.reason == "it is gone"
    with outages.tolerated("renew"):
        pass
    assert outages.reason == ""


def test_a_step_that_takes_the_store_long_is_followed_by_a_beat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats: list[float] = []
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    outages = Outages(lambda: beats.append(clock[0]), lambda: None)
    with outages.tolerated("claim"):
        clock[0] += 2
    with outages.tolerated("announce"):
        clock[0] += 0.1
    with outages.tolerated("renew"):
        clock[0] += 2
        raise BridgeUnavailable("the server does not answer")
    assert beats == [102.0, pytest.approx(104.1)]


def test_the_longest_call_leaves_the_loop_alive_for_the_watchdog() -> None:
    assert Thresholds().silent > CHECK_S + LONGEST_CALL_S


def test_whatever_step_notices_it_a_server_that_was_away_is_noted() -> None:
    away: list[None] = []
    outages = Outages(no_beat, lambda: away.append(None))
    fail(outages, "announce", BridgeBusy("it is locked", "Wait."))
    assert away == []
    fail(outages, "announce", BridgeUnavailable("it does not answer", "Wait."))
    assert away == [None]
