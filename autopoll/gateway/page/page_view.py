"""What every view does: let in a browser that is logged in, and answer an error by a page."""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from autopoll.errors import AccessDenied, AutopollError
from autopoll.gateway.hub import Hub
from autopoll.gateway.page import page_access
from autopoll.gateway.page.page_headers import HEADERS, PRIVATE
from autopoll.gateway.page.templating import page
from autopoll.gateway.page_paths import LOGIN
from autopoll.gateway.problems import BUG, kind_of
from autopoll.gateway.usecases import CallerAccess, as_owner
from autopoll.home.desk_files import DeskLogin

log = logging.getLogger(__name__)

View = Callable[[Request, CallerAccess, DeskLogin], Awaitable[Response]]


def view(show: View) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a view, which is shown to a browser that is logged in."""

    @wraps(show)
    async def endpoint(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        try:
            login = await hub.call(lambda client: page_access.login_of(client.home, request))
        except AccessDenied:
            return RedirectResponse(LOGIN, 303, {**HEADERS, **PRIVATE})
        try:
            return await show(request, as_owner(hub), login)
        except AutopollError as error:
            return failed(error, login)

    return endpoint


def failed(error: AutopollError, login: DeskLogin | None = None) -> Response:
    """Return a page that says what happened, and what to do about it."""
    kind = kind_of(error)
    if kind is BUG:
        log.error("an error that has no kind", exc_info=error)
    return page("error.html", {"error": error, "title": kind.title, "login": login}, kind.status)
