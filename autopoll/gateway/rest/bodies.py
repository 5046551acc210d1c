"""The bodies of requests: JSON, and nothing else is looked at."""

import email.message
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from autopoll.gateway import strict_json
from autopoll.gateway.problems import Refused

_MEND = "Send a JSON object in UTF-8, with the header Content-Type: application/json"
_ENCODINGS = ("utf-8", "utf8", "us-ascii")


class JsonRoute(APIRoute):
    """A route that takes its body as strict_json has it; without Content-Type it counts as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request; it raises Refused for a body that is none."""
        serve = super().get_route_handler()
        if self.body_field is None:
            return serve

        async def checked(request: Request) -> Response:
            _require_json(request.headers.get("content-type"))
            return await serve(_StrictJsonRequest(request.scope, request.receive))

        return checked


class _StrictJsonRequest(Request):
    async def json(self) -> Any:
        try:
            return strict_json.decode(await self.body())
        except strict_json.NotJson as error:
            raise Refused("malformed", 400, f"the body is not JSON: {error}", _MEND) from None
        except strict_json.NotText as error:
            raise Refused("unusable", 422, f"body: {error}", "Send whole characters.") from None


def _require_json(given: str | None) -> None:
    """Raise Refused for a type of content that is not JSON in UTF-8."""
    if given in (None, "application/json"):  # what nearly every client sends
        return
    header = email.message.Message()
    header["content-type"] = given
    subtype = header.get_content_subtype()
    is_json = subtype == "json" or subtype.endswith("+json")
    if header.get_content_maintype() != "application" or not is_json:
        raise _unsupported(f"the header Content-Type is {given[:100]!r}, which is not JSON")
    charset = header.get_param("charset", "utf-8")
    if str(charset).lower() not in _ENCODINGS:
        raise _unsupported(f"the header Content-Type is {given[:100]!r}, which is not UTF-8")


def _unsupported(what: str) -> Refused:
    return Refused("unsupported-media-type", 415, what, _MEND)
