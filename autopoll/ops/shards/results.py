"""The result of checking a shard, as people and programs see it."""

import time

import msgspec

from autopoll.backends.context.remarks import NOTHING, Remarks
from autopoll.backends.contract import Broken, Permanent, Retriable, Unavailable
from autopoll.errors import (
    AutopollError,
    ConfigError,
    DoesNotStart,
    Down,
    NotFound,
    SupervisorError,
    TimedOut,
)
from autopoll.request import Usage


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a check; `failure` is its class when it failed, and `mend` what to do."""

    name: str  # settings | context | instance | canary
    ok: bool
    ms: int
    detail: str = ""
    failure: str = ""
    mend: str = ""


class ContextSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large a context is; `exact` when the service has counted it, else estimated."""

    files: int
    tokens: int
    window: int | None = None  # of the model, where there is one
    share: float | None = None  # of the window
    whole: bool | None = None  # False: each question brings passages along instead
    exact: bool = False


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A real question and its answer."""

    answer: str
    sources: list[str]
    ms: int
    usage: Usage | None = None

    @property
    def summary(self) -> str:
        """The answer in one line, with its sources."""
        sources = f" [{', '.join(self.sources)}]" if self.sources else ""
        return " ".join(self.answer.split()) + sources


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of checking one shard."""

    shard: str
    backend: str
    ok: bool
    steps: list[Step]
    context: ContextSize | None = None
    context_remarks: Remarks = NOTHING
    canary: Canary | None = None


class Paused(AutopollError):
    """The shard answers nothing for now; `cause` says why."""

    def __init__(self, cause: str, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.cause = cause


class StepFailed(AutopollError):
    """A step that failed; the error that made it fail is its cause."""

    def __init__(self, step: str, error: AutopollError) -> None:
        super().__init__(error.what, error.mend)
        self.step = step
        self.kind = failure_of(error)
        self.exit_code = error.exit_code


def failure_of(error: AutopollError) -> str:
    """Return the class of a failure in a word or two."""
    match error:
        case Unavailable():
            return error.kind
        case Paused():
            return error.cause
        case ConfigError():
            return "configuration"
        case Retriable():
            return "retriable"
        case Permanent():
            return "permanent"
        case Broken() | DoesNotStart():
            return "broken"
        case TimedOut():
            return "timed out"
        case Down() | SupervisorError() | NotFound():
            return "down"
        case _:
            return "failed"


def elapsed_ms(began: float) -> int:
    """Return the milliseconds since a reading of the monotonic clock."""
    return round((time.monotonic() - began) * 1000)
