"""What the libraries of Anthropic and OpenAI have in common: httpx, its settings, its errors.

Both are made by the same generator: their errors have the same names, and both let the exceptions
of httpx through when a stream breaks. Imported when a backend starts, for httpx is heavy.
"""

import asyncio
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator
from functools import cache
from types import ModuleType
from typing import Any

import httpx2

from autopoll.backends.contract import Retriable, Unanswered
from autopoll.backends.http.error_bodies import ErrorBody, kind_of, read_error, words_of
from autopoll.backends.http.failures import Refusal, failure, unreachable
from autopoll.backends.http.server_sent_events import Event, Events
from autopoll.backends.keys import Login
from autopoll.errors import ConfigError

IDLE_S = 240.0  # for which an idle connection is kept; the services themselves close it later
CONNECT_S = 10.0
GRACE_S = 5.0  # by which the library's time-outs are longer than ours
SHOWN = 300  # characters of a service's text
DRAIN_S = 0.25  # for what is left of a stream after its last event

DONE: dict[str, Any] = {"type": "message_stop"}  # the last object of a stream

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

    async def objects(self, response: httpx2.Response) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the objects of a stream, or the one sent in its place; None is a sign of life.

        The last is DONE where the service has ended the stream. Raises the failure that an error
        in it means, and Retriable for what is neither.
        """
        events, nothing, done = Events(), True, False
        chunks = response.aiter_bytes()
        async for chunk in chunks:
            alive = True
            for event in events.feed(chunk):
                if done := event.data.strip() == "[DONE]":
                    break
                if (found := self._object(event)) is not None:
                    nothing = alive = False
                    yield found
            if done:
                break
            if alive:  # a comment, or a part of a long event
                yield None
        for event in () if done else events.end():
            if done := event.data.strip() == "[DONE]":
                break
            if (found := self._object(event)) is not None:
                nothing = False
                yield found
        if events.body is not None:
            yield self._whole(events.body)
            done = True
        elif nothing and not done:
            raise self._nothing(response, events.strange)
        if done:
            yield DONE
            await _drain(chunks)

    def refused(self, error: ErrorBody) -> Unanswered:
        """Return what an error means that came within an answer."""
        return failure(Refusal(None, error.kind, self._shown(error.words)))

    def _object(self, event: Event) -> dict[str, Any] | None:
        """Return the object that an event holds, None when it holds nothing."""
        if not event.data.strip():
            return None
        try:
            found = json.loads(event.data)
        except (ValueError, RecursionError) as error:
            if event.name == "error":
                raise self.refused(ErrorBody("", event.data)) from error
            raise self._unreadable(event.data) from error
        self._raise_error(found, event.name)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self._unreadable(event.data)
        return found if "type" in found or not event.name else {**found, "type": event.name}

    def _whole(self, body: bytes) -> dict[str, Any]:
        """Return the whole answer that came in place of a stream, or raise what came instead."""
        text = body.decode("utf-8", "replace")
        if text.startswith("<"):
            raise Retriable(
                "the service sent a web page in place of an answer: "
                f"{self._shown(words_of(text)) or 'without words'}",
                "Check `base_url` and the proxy settings; a network may ask for a login.",
            )
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._unreadable(text) from error
        self._raise_error(found, "")
        if not isinstance(found, dict) or not found.keys() & {"choices", "content"}:
            raise Retriable(
                f"the service sent no answer but: {self._shown(text)}", "Check `base_url`."
            )
        return found

    def _nothing(self, response: httpx2.Response, strange: str) -> Retriable:
        sent = f"no answer but: {self._shown(strange)}" if strange else "nothing"
        return Retriable(
            f"the service sent {sent} (status {response.status_code})", "Check `base_url`."
        )

    def _raise_error(self, found: Any, name: str) -> None:
        error = read_error(found)
        if error is None and name == "error":
            error = ErrorBody("", words_of(found) or json.dumps(found))
        if error is not None:
            raise self.refused(error)

    def _unreadable(self, text: str) -> Retriable:
        return Retriable(f"the service sent what cannot be read: {self._shown(repr(text[:200]))}")

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
                    kind=kind_of(body),
                    words=self._shown(words_of(body).strip() or error.message),
                    headers={name.lower(): text for name, text in error.response.headers.items()},
                )
            )
        if isinstance(cause, httpx2.HTTPError | httpx2.StreamError):
            return Retriable(f"the connection broke: {self._words(cause)}")
        return Retriable(f"the service sent what cannot be read: {self._words(error)}")

    def _words(self, error: BaseException) -> str:
        return self._shown(f"{type(error).__name__}: {error}".rstrip(": "))

    def _shown(self, text: str) -> str:
        # Before it is cut, because half a key is not known for one.
        text = text[: 20 * SHOWN].encode("utf-8", "replace").decode()
        return " ".join(self._key.hidden(text).split())[:SHOWN]


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
    """Return the certificates that are trusted; reading them takes 40 ms, all else 0.2.

    Raises ConfigError.
    """
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        name = "SSL_CERT_FILE" if os.environ.get("SSL_CERT_FILE") else "SSL_CERT_DIR"
        path = os.environ.get(name, "the certificates of this machine")
        raise ConfigError(
            f"{name}: {path} cannot be used: {error.strerror or error}",
            "Name a file of certificates in PEM, or unset it.",
        ) from error


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what is left, which is mostly nothing, so that the connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                continue
    except (TimeoutError, httpx2.HTTPError, httpx2.StreamError):
        return  # the answer is there; the connection is closed
