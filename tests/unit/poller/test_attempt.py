"""When something is to be done about an attempt."""

from math import inf
from types import SimpleNamespace

from autopoll.poller.attempt import ANNOUNCE_S, CANCEL_GRACE_S, Attempt


def attempt(limit: float) -> Attempt:
    return Attempt(SimpleNamespace(metadata=None), "main", 7, 99.0, 100.0, limit)  # type: ignore[arg-type]


def test_an_attempt_is_announced_once_begun_and_cancelled_at_its_limit() -> None:
    one = attempt(limit=60.0)
    assert one.due == inf
    assert not one.is_overdue(1e9)  # nobody has begun: the clock does not run
    one.begun_at = 200.0
    assert one.due == 200.0 + ANNOUNCE_S
    one.announced = True
    assert one.due == 260.0
    assert one.is_overdue(260.0)
    assert not one.is_overdue(259.9)
    one.cancelled_at = 261.0
    assert one.due == one.lease_end == 261.0 + CANCEL_GRACE_S


def test_an_attempt_with_less_time_than_announcing_takes_is_cancelled_at_its_limit() -> None:
    short = attempt(limit=0.01)
    short.begun_at = 200.0
    assert short.due == 200.01
    assert short.is_overdue(short.due)
