"""Errors as HTTP shows them: problem+json (RFC 9457), with what to do about it in `mend`."""

import math
from typing import NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from autopoll.errors import (
    AccessDenied,
    AlreadyRunning,
    AlreadySettled,
    AutopollError,
    BridgeBusy,
    BridgeError,
    BridgeFull,
    BridgeUnavailable,
    ConfigError,
    Down,
    KeyReused,
    NotFound,
    RateLimited,
    SupervisorError,
    TimedOut,
    UsageError,
)
from autopoll.gateway import strict_json
from autopoll.gateway.authentication import Forbidden
from autopoll.gateway.hub import ShuttingDown

MEDIA_TYPE = "application/problem+json"
RETRY_S = 2  # after which a restarted gateway, or a poller, is mostly there again


class Refused(AutopollError, HTTPException):
    """A request that is turned away before anybody looks at what it wants.

    An HTTPException too, because FastAPI takes any other error of reading a body for its own.
    """

    def __init__(self, kind: str, status: int, what: str, mend: str = "") -> None:
        AutopollError.__init__(self, what, mend)
        HTTPException.__init__(self, status, what)
        self.kind = ProblemKind(kind, status)


class ProblemKind(NamedTuple):
    """What a program tells errors apart by."""

    name: str
    status: int

    @property
    def title(self) -> str:
        """The kind in words."""
        return self.name.replace("-", " ").capitalize()


BUG = ProblemKind("internal", 500)
UNUSABLE = ProblemKind("unusable", 422)
# The first class of an error's own ancestry that stands here counts.
_KINDS: dict[type[BaseException], ProblemKind] = {
    KeyReused: ProblemKind("key-reused", 422),
    UsageError: UNUSABLE,
    AlreadySettled: ProblemKind("settled", 409),
    NotFound: ProblemKind("not-found", 404),
    AccessDenied: ProblemKind("unauthenticated", 401),
    Forbidden: ProblemKind("forbidden", 403),
    RateLimited: ProblemKind("rate-limited", 429),
    ShuttingDown: ProblemKind("draining", 503),
    Down: ProblemKind("down", 503),
    TimedOut: ProblemKind("timed-out", 503),
    BridgeBusy: ProblemKind("busy", 503),
    BridgeFull: ProblemKind("no-room", 503),
    BridgeUnavailable: ProblemKind("store-unreachable", 503),
    BridgeError: ProblemKind("store-unusable", 503),
    SupervisorError: ProblemKind("supervisor-unreachable", 503),
    ConfigError: ProblemKind("misconfigured", 503),
    AlreadyRunning: ProblemKind("busy", 503),
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it is sent; `id` is the question that is kept, if there is one."""

    type: str
    title: str
    status: int
    detail: str
    mend: str = ""
    id: int | None = None


def kind_of(error: BaseException) -> ProblemKind:
    """Return what an error counts as; what nobody has foreseen is internal."""
    if isinstance(error, Refused):
        return error.kind
    return next((_KINDS[each] for each in type(error).__mro__ if each in _KINDS), BUG)


def response(error: AutopollError, *, kept: int | None = None) -> Response:
    """Return the answer of an error; `kept` is a question that stays though it failed."""
    kind = kind_of(error)
    headers = _headers(error, kind)
    if kept is not None:
        headers["Location"] = f"/v1/questions/{kept}"
    return problem(kind, error.what, error.mend, headers, kept)


def problem(
    kind: ProblemKind,
    detail: str,
    mend: str = "",
    headers: dict[str, str] | None = None,
    kept: int | None = None,
) -> Response:
    """Return the answer of one kind of error."""
    body = Problem(
        type=f"urn:autopoll:problem:{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        mend=mend,
        id=kept,
    )
    return Response(strict_json.encode(body), kind.status, headers, MEDIA_TYPE)


def _headers(error: AutopollError, kind: ProblemKind) -> dict[str, str]:
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, math.ceil(error.wait_ms / 1000)))}
    if kind.status == 503:
        return {"Retry-After": str(RETRY_S)}
    if kind.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}
