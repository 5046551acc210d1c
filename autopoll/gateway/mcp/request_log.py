"""Around every request: it is logged, and what goes wrong becomes an error of the protocol."""

import logging
import time
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST
from pydantic import ValidationError

from autopoll.errors import AutopollError, BridgeError
from autopoll.gateway.mcp.log_relay import REQUESTS

log = logging.getLogger(__name__)


async def logged(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Carry out a request or a notification, as a middleware of the protocol's library."""
    began = time.monotonic()
    name = (ctx.params or {}).get("name")
    what = f"{ctx.method} {name:.60}" if isinstance(name, str) else ctx.method
    try:
        result = await call_next(ctx)
    except MCPError as error:
        REQUESTS.info("%s was refused: %.300s", what, error.message)
        raise
    except ValidationError:
        REQUESTS.info("%s was refused: its params are not valid", what)
        raise
    except AutopollError as error:
        REQUESTS.warning("%s failed: %.300s", what, error.what)
        code = INTERNAL_ERROR if isinstance(error, BridgeError) else INVALID_REQUEST
        raise MCPError(code, str(error)) from None
    except Exception:
        # The boundary: a bug of ours must neither end the connection nor show its inside.
        log.exception("%s", what)
        raise MCPError(INTERNAL_ERROR, "this is a bug in autopoll; its log says more") from None
    REQUESTS.debug("%s took %d ms", what, (time.monotonic() - began) * 1000)
    return result
