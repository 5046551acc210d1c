"""When an error of the store ends the poller, and when what failed is tried again."""

import logging

import pytest

from autopoll.errors import BridgeBusy, BridgeError
from autopoll.poller.outages import Outages


def fail(outages: Outages, step: str, error: BridgeError) -> None:
    with outages.tolerated(step):
        raise error


def test_a_store_that_never_worked_ends_the_poller_unless_it_is_only_busy() -> None:
    outages = Outages()
    fail(outages, "claim", BridgeBusy("it is locked", "Wait."))
    assert outages.reason == "it is locked"
    with pytest.raises(BridgeError, match="it is damaged"):
        fail(outages, "claim", BridgeError("it is damaged", "Mend it."))


def test_each_step_that_fails_is_reported_once_until_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    outages = Outages()
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
