"""Who is asking: a session of one conversation, or the operator; proven anew by each request.

A conversation's token opens that conversation and nothing else. Whatever belongs to another one is
answered exactly as if it did not exist, and written into the audit log, also when it truly does not
exist: neither the answer nor the time it takes tells the two apart.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from autopoll.client.client import Client
from autopoll.errors import AccessDenied, BridgeError, NotFound
from autopoll.gateway.hub import Hub
from autopoll.gateway.problems import Forbidden
from autopoll.home import operator_token

T = TypeVar("T")

_DESCRIBED = HTTPBearer(
    auto_error=False, description="A token of a conversation, or the operator's token."
)
_SCHEME = "bearer "
_MEND = "Send the header: Authorization: Bearer TOKEN"

log = logging.getLogger(__name__)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A proven session, or the operator, who is of no conversation."""

    conversation: str | None = None
    session: str | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it looks after the home."""
        return self.conversation is None

    @property
    def scope(self) -> str:
        """Whose keys and names it uses."""
        return "operator" if self.is_operator else f"{self.conversation}/{self.session}"

    def sees(self, conversation: str) -> bool:
        """Tell whether a conversation is there for it."""
        return self.is_operator or conversation == self.conversation


class Visit:
    """One request with its token; every use-case begins with the proof of it, in the same turn of
    the bridge's thread."""

    def __init__(self, hub: Hub, token: str | None, conversation: str | None = None) -> None:
        self.hub = hub
        self._token = token
        self._conversation = conversation

    async def call(self, use: Callable[[Client, Caller], T]) -> T:
        """Return what a use-case returns for the caller; raise AccessDenied, and what it raises."""

        def proven(client: Client) -> T:
            caller = prove(client, self._token, self._conversation)
            try:
                return use(client, caller)
            except (NotFound, Forbidden) as error:
                if not caller.is_operator:
                    client.bridge.conversations.audit_denial(caller.conversation, _why(error))
                raise

        return await self.hub.call(proven)

    async def operate(self, use: Callable[[Client], T]) -> T:
        """Do what only the operator may; raise Forbidden for anybody else."""

        def operated(client: Client, caller: Caller) -> T:
            if not caller.is_operator:
                raise Forbidden(
                    "this needs the operator's token",
                    "A conversation's token opens that conversation. "
                    "Make one with: autopoll gateway token",
                )
            return use(client)

        return await self.call(operated)


class Audit:
    """Writes down who was turned away before it was known who it was; never in anybody's way."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._writing: dict[str, asyncio.Task[None]] = {}

    def __call__(self, why: str) -> None:
        """Note a refusal; `why` is one of a few words."""
        if why not in self._writing:  # a flood is one line a minute whatever is left out
            self._writing[why] = task = asyncio.create_task(self._write(why))
            task.add_done_callback(lambda _: self._writing.pop(why))

    async def _write(self, why: str) -> None:
        try:
            await self._hub.call(lambda client: client.bridge.conversations.audit_denial(None, why))
        except BridgeError as error:
            log.warning("cannot audit %s: %s", why, error)


def prove(client: Client, token: str | None, conversation: str | None = None) -> Caller:
    """Return who a token proves its bearer to be; raise AccessDenied (audited).

    `conversation` is the one the request names; only tokens that another bridge program made need
    it, for those cannot be looked up.
    """
    if not token:
        client.bridge.conversations.audit_denial(None, "no token")
        raise without_token()
    if operator_token.proves(client.home, token):
        return Caller()
    known = client.bridge.conversations.find_by_token(token) or conversation
    if known is None:
        client.bridge.conversations.audit_denial(None, "unknown token")
    else:
        try:
            return Caller(
                conversation=known, session=client.bridge.conversations.authenticate(known, token)
            )
        except (AccessDenied, NotFound):
            pass  # audited there; which of the two it was is nothing for a stranger
    raise AccessDenied("the token opens nothing here", _MEND)


def without_token() -> AccessDenied:
    """Return the error of a request that shows no token."""
    return AccessDenied("there is no token", _MEND)


def bearer(request: Request) -> str | None:
    """Return the token that a request shows."""
    header = request.headers.get("authorization", "")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return header[len(_SCHEME) :].strip() or None


def _why(error: NotFound | Forbidden) -> str:
    return "not for this token" if isinstance(error, NotFound) else "needs the operator's token"


def _visit(
    request: Request,
    _described: Annotated[HTTPAuthorizationCredentials | None, Depends(_DESCRIBED)],
) -> Visit:
    hub: Hub = request.app.state.hub
    return Visit(hub, bearer(request), request.path_params.get("conversation"))


Visiting = Annotated[Visit, Depends(_visit)]
