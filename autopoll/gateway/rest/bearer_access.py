"""The access of a request's bearer token, as a dependency of every route that needs one."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from autopoll.gateway.authentication import bearer
from autopoll.gateway.hub import Hub
from autopoll.gateway.usecases import CallerAccess, by_token

_DESCRIBED = HTTPBearer(
    auto_error=False, description="A token of a conversation, or the operator's token."
)


# A coroutine, as each function that is none is carried out in a thread of the framework's own.
async def _access(
    request: Request,
    _described: Annotated[HTTPAuthorizationCredentials | None, Depends(_DESCRIBED)],
) -> CallerAccess:
    hub: Hub = request.app.state.hub
    return by_token(hub, bearer(request), request.path_params.get("conversation"))


BearerAccess = Annotated[CallerAccess, Depends(_access)]
