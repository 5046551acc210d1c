"""All that the page serves: its views, logging in and out, and its files."""

from collections.abc import Awaitable, Callable
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from autopoll.gateway.page.login_page import login, logout
from autopoll.gateway.page.overview_page import overview
from autopoll.gateway.page.page_headers import ASSET, HEADERS
from autopoll.gateway.page.questions_page import question, questions
from autopoll.gateway.page_paths import LOGIN

_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


def routes() -> list[Route]:
    """Return the routes, a line for each view."""
    return [
        Route("/", overview),
        Route("/desk/questions", questions),
        Route("/desk/questions/{number:int}", question),
        Route(LOGIN, login, methods=["GET", "POST"]),
        Route("/desk/logout", logout, methods=["POST"]),
        *(Route(f"/desk/{name}", _asset(name, kind)) for name, kind in _ASSETS.items()),
    ]


def _asset(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("autopoll.gateway.page").joinpath("static", name).read_bytes()

    async def send(_request: Request) -> Response:
        return Response(content, headers={**HEADERS, **ASSET}, media_type=kind)

    return send
