"""The walk ends in time whatever hangs, loses nothing that was found, and hides no bug."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopoll.errors import BridgeError, Exit
from autopoll.home.home import Home
from autopoll.ops.doctor import walk
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject


def report(monkeypatch: pytest.MonkeyPatch, **hops: walk.Look) -> walk.DoctorReport:
    monkeypatch.setattr(walk, "HOPS", tuple(hops.items()))
    return walk.examine(Subject(Home(Path("/nowhere"))), lambda words: None)


def fine(subject: Subject) -> Iterator[DoctorFinding]:
    yield good("fine", "as it should be")


def test_a_hop_that_hangs_is_named_and_what_it_has_found_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walk, "HOP_S", 0.1)
    over = threading.Event()

    def hangs(subject: Subject) -> Iterator[DoctorFinding]:
        yield degraded("first", "seen before")
        over.wait()

    try:
        found = report(monkeypatch, disk=hangs, next=fine)
    finally:
        over.set()
    assert [each.name for each in found.findings] == ["first", "disk", "fine"]
    assert "nothing answers within" in found.findings[1].detail


def test_all_hops_together_end_in_time_though_each_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "ALL_S", 0.2)
    monkeypatch.setattr(walk, "_MOMENT_S", 0.01)
    over = threading.Event()

    def hangs(subject: Subject) -> Iterator[DoctorFinding]:
        over.wait()
        yield good("never", "")

    begun = time.monotonic()
    try:
        found = report(monkeypatch, **{f"hop{number}": hangs for number in range(6)})
    finally:
        over.set()
    assert time.monotonic() - begun < walk.HOP_S
    assert [each.state.value for each in found.findings] == ["unknown"] * 6


def test_what_a_hop_raises_for_people_is_a_finding_and_a_bug_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(subject: Subject) -> Iterator[DoctorFinding]:
        raise BridgeError("it is gone", "Bring it back.")
        yield

    def may_not(subject: Subject) -> Iterator[DoctorFinding]:
        raise PermissionError(13, "Permission denied", "/x")
        yield

    def is_wrong(subject: Subject) -> Iterator[DoctorFinding]:
        raise KeyError("x")
        yield

    found = report(monkeypatch, one=refuses, two=may_not)
    assert [each.detail for each in found.findings] == ["it is gone", "/x: Permission denied"]
    assert found.first is not None and found.first.mend == "Bring it back."
    with pytest.raises(KeyError):
        report(monkeypatch, three=is_wrong)


def test_the_first_is_of_those_that_keep_questions_from_being_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def some(subject: Subject) -> Iterator[DoctorFinding]:
        yield degraded("warned", "")
        yield failed("broken", "", exit_code=Exit.UNREACHABLE)
        yield failed("later", "")

    found = report(monkeypatch, one=fine, two=some)
    assert found.first is not None and found.first.name == "broken"
    assert (found.verdict, found.exit_code) == ("down", Exit.UNREACHABLE)
    assert report(monkeypatch, one=fine).exit_code == Exit.OK
