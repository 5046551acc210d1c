"""A process in uninterruptible sleep that not even KILL ends; the state is faked.

A real one needs a file system that hangs, and root to make it.
"""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest
from ward import Ward

from autopoll import watchdog
from autopoll.process import signals, treatment
from autopoll.process.heartbeat import Heart
from autopoll.process.verdict import Limits
from autopoll.process.vitals import Vitals, vitals
from autopoll.watchdog import Watchdog


def in_state_d(pid: int) -> Vitals | None:
    reading = vitals(pid)
    return reading and msgspec.structs.replace(reading, state="D")


@pytest.mark.parametrize(
    ("behaviour", "actions"),
    [
        ("deadlocked", ["killed", "reported"]),
        ("overdue-deadlocked", ["reported", "killed", "reported"]),  # at first within its deadline
    ],
)
def test_who_does_not_die_of_a_kill_is_reported_and_gets_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, actions: list[str]
) -> None:
    def undying(_pid: int, _started: int, number: signal.Signals) -> None:
        sent.append(number)

    sent: list[signal.Signals] = []
    monkeypatch.setattr(signals, "send_group", undying)
    monkeypatch.setattr(treatment, "DEATH_S", 0.1)
    monkeypatch.setattr(watchdog, "LOOP_S", 0.05)
    monkeypatch.setattr(watchdog, "vitals", in_state_d)

    async def main() -> None:
        with Heart.open(ward.home.beats, "watchdog", "watchdog") as heart:
            watch = Watchdog(ward.home, heart, Limits(blocked=0.3, silent=0.2, overdue=0.1))
            loop = asyncio.get_running_loop()
            loop.call_later(3.0, watch.stopping.set)
            await watch.run()

    with Ward(tmp_path) as ward:
        ward.patient("worker", behaviour)
        asyncio.run(main())
        assert sent == [signal.SIGKILL]
        seen = ward.incidents("worker")
        assert {each.verdict for each in seen} == {"uninterruptible"}
        assert [each.action for each in seen] == actions
        assert "does not die" in seen[-1].evidence
        assert os.listdir(ward.home.evidence) != []
