"""What a look at one thing has found."""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from autopoll.errors import AutopollError, Exit


class FindingState(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    DEGRADED = "degraded"  # something is missing, and questions are answered all the same
    FAILED = "failed"  # no question, or none of a shard, is answered
    UNKNOWN = "unknown"  # it could not be looked at


class DoctorFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `mend` is what to do about it."""

    name: str
    state: FindingState
    detail: str
    mend: str = ""
    exit_code: int = Exit.OK  # of a finding that has one of its own

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to mend."""
        return self.state is FindingState.OK


def good(name: str, detail: str) -> DoctorFinding:
    """Return what is as it should be."""
    return DoctorFinding(name=name, state=FindingState.OK, detail=detail)


def degraded(name: str, detail: str, mend: str = "") -> DoctorFinding:
    """Return what is not as it should be, while questions are answered."""
    return DoctorFinding(name=name, state=FindingState.DEGRADED, detail=detail, mend=mend)


def failed(name: str, detail: str, mend: str = "", exit_code: int = Exit.OK) -> DoctorFinding:
    """Return what keeps questions from being answered."""
    state = FindingState.FAILED
    return DoctorFinding(name=name, state=state, detail=detail, mend=mend, exit_code=exit_code)


def unknown(name: str, detail: str, mend: str = "") -> DoctorFinding:
    """Return what could not be looked at."""
    return DoctorFinding(name=name, state=FindingState.UNKNOWN, detail=detail, mend=mend)


def of_error(name: str, error: AutopollError) -> DoctorFinding:
    """Return what an error says keeps questions from being answered."""
    return failed(name, error.what, error.mend)


class DoctorHop(NamedTuple):
    """A stage on the way of a question, with what was found there."""

    name: str
    findings: list[DoctorFinding]
