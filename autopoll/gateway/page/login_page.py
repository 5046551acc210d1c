"""Logging in by a code of `autopoll desk`, and out again."""

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from autopoll.errors import AccessDenied, AutopollError, UsageError
from autopoll.gateway.authentication import Forbidden
from autopoll.gateway.hub import Hub
from autopoll.gateway.page import page_access
from autopoll.gateway.page.page_headers import HEADERS, PRIVATE
from autopoll.gateway.page.page_view import failed
from autopoll.gateway.page.templating import page
from autopoll.gateway.page_paths import LOGIN
from autopoll.home import desk_files
from autopoll.home.home import Home

_LARGEST = 4096  # bytes of a form
_FIELDS = 8


async def login(request: Request) -> Response:
    """Show the form for a code, or take one: it comes by hand, or by the script from the link."""
    if request.method == "GET":
        return page("login.html", {"problem": "", "login": None})
    hub: Hub = request.app.state.hub
    try:
        page_access.require_own_origin(request)
        form = await _form(request)
        token = await hub.call(lambda client: _begin(client.home, form.get("code", "")))
    except AccessDenied as error:
        return page("login.html", {"problem": str(error), "login": None}, 403)
    except AutopollError as error:
        return failed(error)
    response = RedirectResponse("/", 303, {**HEADERS, **PRIVATE})
    page_access.set_cookie(response, request, token)
    return response


async def logout(request: Request) -> Response:
    """End the login of this browser."""
    hub: Hub = request.app.state.hub
    try:
        found = await hub.call(lambda client: page_access.login_of(client.home, request))
        page_access.require_own_form(found, request, await _form(request))
    except (AccessDenied, Forbidden, UsageError) as error:
        return failed(error)
    name = page_access.cookie_name(request)
    token = request.cookies[name]
    await hub.call(lambda client: desk_files.end_login(client.home, token))
    response = RedirectResponse(LOGIN, 303, {**HEADERS, **PRIVATE})
    response.delete_cookie(name)
    return response


def _begin(home: Home, code: str) -> str:
    if not desk_files.take_code(home, code):
        raise AccessDenied(
            "this code opens nothing: it is wrong, was used, or is older than a minute",
            "For another, type in a shell: autopoll desk",
        )
    return desk_files.begin_login(home)


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a small form; raise UsageError for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise UsageError("this is no form of the page", "Open the page, and send its form.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise UsageError(f"the form is larger than {_LARGEST} bytes", "Send less.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError as error:  # not UTF-8, or too many fields
        raise UsageError("the form cannot be read", "Open the page, and send its form.") from error
