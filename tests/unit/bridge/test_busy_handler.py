"""How long a lock is waited for."""

from types import SimpleNamespace

import pytest

from autopoll.bridge.sqlite import busy_handler
from autopoll.bridge.sqlite.busy_handler import BUSY_S, BusyHandler


def test_a_lock_is_waited_for_until_the_time_is_up_and_each_wait_has_the_whole_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, slept = [1000.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append)
    monkeypatch.setattr(busy_handler, "time", clock)
    handler = BusyHandler()
    for began in (1000.0, 5000.0):
        now[0] = began
        assert handler(0)
        now[0] = began + BUSY_S - 0.001
        assert handler(1)
        now[0] = began + BUSY_S
        assert not handler(2)
    assert slept == [0.0001, 0.0002] * 2, "not after it was given up"
