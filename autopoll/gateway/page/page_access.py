"""Who is let in to the page: a browser with the cookie of a login.

The cookie opens the page and nothing else; the API wants a token as before. A form counts only if
it was sent from this very page: by its origin, by what the browser says of the site, and by a token
that no other page can read.
"""

import hmac
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from autopoll.errors import AccessDenied
from autopoll.gateway.authentication import Forbidden
from autopoll.home import desk_files
from autopoll.home.desk_files import LOGIN_S, DeskLogin
from autopoll.home.home import Home


def login_of(home: Home, request: Request) -> DeskLogin:
    """Return the login of a browser; raise AccessDenied where it has none."""
    token = request.cookies.get(cookie_name(request))
    found = desk_files.login_of(home, token) if token else None
    if found is None:
        raise AccessDenied("this browser is not logged in", "Type in a shell: autopoll desk")
    return found


def require_own_form(login: DeskLogin, request: Request, form: Mapping[str, object]) -> None:
    """Raise Forbidden for a form that was not sent from the page that the login was shown."""
    require_own_origin(request)
    token = form.get("form_token")
    if not (isinstance(token, str) and hmac.compare_digest(token.encode(), _bytes(login))):
        raise Forbidden("the form is not of this login", "Open the page again, and send it there.")


def require_own_origin(request: Request) -> None:
    """Raise Forbidden for what another site has a browser send."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")  # old browsers do not say it
    if origin != f"{request.url.scheme}://{request.url.netloc}" or site != "same-origin":
        raise Forbidden(
            "this was not sent from the page itself", "Open the page, and send it there."
        )


def set_cookie(response: Response, request: Request, token: str) -> None:
    """Have the browser keep the token of its login, where no script can read it."""
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=LOGIN_S,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def cookie_name(request: Request) -> str:
    """Return the name with the port in it, for cookies of one host are shared by all its ports."""
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    return f"__Host-autopoll-{port}" if request.url.scheme == "https" else f"autopoll-{port}"


def _bytes(login: DeskLogin) -> bytes:
    return login.form_token.encode()
