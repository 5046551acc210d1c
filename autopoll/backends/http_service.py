"""What the libraries of Anthropic and OpenAI have in common: httpx, its settings, its errors.

Both are made by the same generator: their errors have the same names, and both let the exceptions
of httpx through when a stream breaks. Imported when a backend starts, for httpx is heavy.
"""

import logging
import ssl
from functools import cache
from types import ModuleType
from typing import Any

import httpx2

from autopoll.backends.contract import Retriable, Unanswered
from autopoll.backends.keys import Login
from autopoll.backends.refusals import Refusal, failure, unreachable

IDLE_S = 240.0  # for which an idle connection is kept; the services themselves close it later
CONNECT_S = 10.0
GRACE_S = 5.0  # by which the library's time-outs are longer than ours
SHOWN = 300  # characters of what a service says

# A line for each request, with its address, is nothing to keep for every question.
logging.getLogger("httpx2").setLevel(logging.WARNING)


class HttpService:
    """The part of a `Service` that is the same for both libraries."""

    def __init__(
        self, library: ModuleType, root: type[Exception], client: Any, login: Login
    ) -> None:
        """`root` is the class that all errors of the library have in common."""
        self._library, self._client, self._key = library, client, login.key
        # ValueError: what is sent in place of JSON.
        self.errors: tuple[type[Exception], ...] = (
            root,
            httpx2.HTTPError,
            httpx2.StreamError,
            httpx2.InvalidURL,
            ValueError,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def failure(self, error: Exception) -> Unanswered:
        """Return what an error means, in words that do not hold the key."""
        # Some errors come bare, and some inside the library's own.
        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
        if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
            return unreachable(self._words(cause))
        if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
            return unreachable(self._words(cause))
        if isinstance(error, self._library.APIStatusError):
            body = error.body
            return failure(
                Refusal(
                    status=error.status_code,
                    kind=_kind(body),
                    words=self._said(error.message, body),
                    headers={name.lower(): text for name, text in error.response.headers.items()},
                )
            )
        if isinstance(cause, httpx2.HTTPError | httpx2.StreamError):
            return Retriable(f"the connection broke: {self._words(cause)}")
        if isinstance(error, self._library.APIError):  # in mid-stream, in openai
            return failure(Refusal(None, _kind(error.body), self._said(error.message, error.body)))
        return Retriable(f"the service sent what cannot be read: {self._words(error)}")

    def _said(self, message: str, body: Any) -> str:
        """Return what the service says about an error; there are many places where it may stand."""
        inner = body.get("error", body) if isinstance(body, dict) else body
        words = inner.get("message") or inner.get("detail") if isinstance(inner, dict) else inner
        return self._shown(words if isinstance(words, str) and words.strip() else message)

    def _words(self, error: BaseException) -> str:
        return self._shown(f"{type(error).__name__}: {error}".rstrip(": "))

    def _shown(self, text: str) -> str:
        # Before it is cut, because half a key is not known for one.
        return " ".join(self._key.hidden(text[: 20 * SHOWN]).split())[:SHOWN]


def http_client(build: Any, patience: float, concurrency: int) -> Any:
    """Return the HTTP client for a library by its own `build`, which sets TCP keep-alives.

    Redirects are not followed, for they would take the key along.
    """
    slow = patience + GRACE_S
    return build(
        verify=_certificates(),
        timeout=httpx2.Timeout(slow, connect=min(CONNECT_S, slow)),
        limits=httpx2.Limits(
            max_connections=concurrency + 2,
            max_keepalive_connections=concurrency,
            keepalive_expiry=IDLE_S,
        ),
        follow_redirects=False,
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Return the certificates that are trusted; reading them takes 40 ms, all else 0.2."""
    return httpx2.create_ssl_context()


def _kind(body: Any) -> str:
    """Return type and code of an error; some services put a status there."""
    inner = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return ""
    details = inner.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    parts = (inner.get("code"), inner.get("type"), code)
    return " ".join(str(part) for part in parts if isinstance(part, str | int))
