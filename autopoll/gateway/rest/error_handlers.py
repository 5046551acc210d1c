"""Answers every error of a route by a problem, those of the framework too."""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from autopoll.errors import AutopollError
from autopoll.gateway.problems import BUG, UNUSABLE, ProblemKind, kind_of, problem, response

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Have an app answer every error by a problem."""
    app.add_exception_handler(AutopollError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(ClientDisconnect, _of_nobody)
    app.add_exception_handler(Exception, _of_bug)


async def _of_ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AutopollError)
    if kind_of(error) is BUG:
        log.error("an error that has no kind", exc_info=error)
    return response(error)


async def _of_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "missing" and each["loc"] == ("body",) for each in found):
        return problem(UNUSABLE, "the body is empty", "Send a JSON object.")
    # Without the input itself: it may hold what should not be shown again.
    words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:5])
    return problem(UNUSABLE, words, "See /openapi.json for what can be given.")


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {404: "not-found", 405: "method-not-allowed", 400: "malformed"}
    kind = ProblemKind(names.get(error.status_code, "refused"), error.status_code)
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
    mend = "Its log has the details: var/log/gateway.log"
    return problem(BUG, "this is a bug in autopoll", mend)
