"""Errors as HTTP tells them: problem+json (RFC 9457), with what to do about it in `mend`."""

import logging
import math
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from autopoll.errors import (
    AccessDenied,
    AlreadyRunning,
    AutopollError,
    BridgeBusy,
    BridgeError,
    BridgeFull,
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
from autopoll.gateway.hub import Draining

MEDIA_TYPE = "application/problem+json"
RETRY_S = 2  # after which a restarted gateway, or a poller, is mostly there again

log = logging.getLogger(__name__)


class Forbidden(AutopollError):
    """The token is right, and what is asked is not for it."""


class Refused(AutopollError, HTTPException):
    """A request that is turned away before anybody looks at what it wants.

    An HTTPException too, because FastAPI takes any other error of reading a body for its own.
    """

    def __init__(self, kind: str, status: int, what: str, mend: str = "") -> None:
        AutopollError.__init__(self, what, mend)
        HTTPException.__init__(self, status, what)
        self.kind = Kind(kind, status)


class Kind(NamedTuple):
    """What a program tells errors apart by."""

    name: str
    status: int

    @property
    def title(self) -> str:
        """The kind in words."""
        return self.name.replace("-", " ").capitalize()


# The first class of an error's own ancestry that stands here counts.
_KINDS: dict[type[BaseException], Kind] = {
    KeyReused: Kind("key-reused", 422),
    UsageError: Kind("unusable", 422),
    NotFound: Kind("not-found", 404),
    AccessDenied: Kind("unauthenticated", 401),
    Forbidden: Kind("forbidden", 403),
    RateLimited: Kind("rate-limited", 429),
    Draining: Kind("draining", 503),
    Down: Kind("down", 503),
    TimedOut: Kind("timed-out", 503),
    BridgeBusy: Kind("busy", 503),
    BridgeFull: Kind("no-room", 503),
    BridgeError: Kind("store-unusable", 503),
    SupervisorError: Kind("supervisor-unreachable", 503),
    ConfigError: Kind("misconfigured", 503),
    AlreadyRunning: Kind("busy", 503),
}
_BUG = Kind("internal", 500)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it is sent; `id` is the question that is kept, if there is one."""

    type: str
    title: str
    status: int
    detail: str
    mend: str = ""
    id: int | None = None


def kind_of(error: BaseException) -> Kind:
    """Return what an error counts as; what nobody has foreseen is internal."""
    if isinstance(error, Refused):
        return error.kind
    return next((_KINDS[each] for each in type(error).__mro__ if each in _KINDS), _BUG)


def response(error: AutopollError, *, kept: int | None = None) -> Response:
    """Return the answer that tells an error; `kept` is a question that stays though it failed."""
    kind = kind_of(error)
    headers = _headers(error, kind)
    if kept is not None:
        headers["Location"] = f"/v1/questions/{kept}"
    return problem(kind, error.what, error.mend, headers, kept)


def problem(
    kind: Kind,
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


def install(app: FastAPI) -> None:
    """Have every error of an app told this way."""
    app.add_exception_handler(AutopollError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(ClientDisconnect, _of_nobody)
    app.add_exception_handler(Exception, _of_bug)


def _headers(error: AutopollError, kind: Kind) -> dict[str, str]:
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, math.ceil(error.wait_ms / 1000)))}
    if kind.status == 503:
        return {"Retry-After": str(RETRY_S)}
    if kind.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


async def _of_ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AutopollError)
    if kind_of(error) is _BUG:
        log.error("an error that has no kind", exc_info=error)
    return response(error)


async def _of_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "missing" and each["loc"] == ("body",) for each in found):
        return problem(_KINDS[UsageError], "the body is empty", "Send a JSON object.")
    # Without the input itself: it may hold what should not be told again.
    words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:5])
    return problem(Kind("unusable", 422), words, "See /openapi.json for what can be given.")


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {404: "not-found", 405: "method-not-allowed", 400: "malformed"}
    kind = Kind(names.get(error.status_code, "refused"), error.status_code)
    headers: dict[str, Any] = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(kind, str(error.detail), "See /openapi.json for what there is.", headers)


def _methods(request: Request) -> set[str]:
    """Return every method of a path; the framework names only those of its first route."""
    routes: list[Route] = request.app.state.routes
    matching = [each for each in routes if each.path_regex.match(request.url.path)]
    return {method for each in matching for method in each.methods or ()}


async def _of_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it: the client has gone


async def _of_bug(_request: Request, error: Exception) -> Response:
    log.error("this is a bug in autopoll", exc_info=error)
    return problem(
        _BUG, "this is a bug in autopoll", "Its log has the details: var/log/gateway.log"
    )
