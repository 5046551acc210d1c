"""Who calls: a session of one conversation, or the operator; proven by the token of each request.

A conversation's token opens that conversation and nothing else.
"""

import msgspec
from starlette.requests import Request

from autopoll.client.client import Client
from autopoll.errors import AccessDenied, AutopollError, NotFound
from autopoll.home import operator_token

_SCHEME = "bearer "
_MEND = "Send the header: Authorization: Bearer TOKEN"


class Forbidden(AutopollError):
    """The token is right, and what is asked is not for it."""


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


def prove(client: Client, token: str | None, conversation: str | None = None) -> Caller:
    """Return who a token proves its bearer to be; raise AccessDenied (audited).

    `conversation` is the one the request names; only tokens that another bridge program made need
    it, for those cannot be looked up.
    """
    conversations = client.bridge.conversations
    if not token:
        conversations.audit_denial(None, "no token")
        raise without_token()
    if operator_token.proves(client.home, token):
        return Caller()
    known = conversations.find_by_token(token) or conversation
    if known is None:
        conversations.audit_denial(None, "unknown token")
    else:
        try:
            session = conversations.authenticate(known, token)
            return Caller(conversation=known, session=session)
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
