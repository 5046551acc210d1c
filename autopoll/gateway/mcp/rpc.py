"""JSON-RPC 2.0 at the door: what is no message is answered by the code of its specification.

The protocol's library drops what it cannot read without a word, and takes a request whose id is
null for a notification; its client would wait for ever. So each message is looked at here first,
and every id that can be made out is answered by an error.

    -32700  no JSON; the id is null then
    -32600  JSON, but no message: a batch (the protocol has none any more), another version, an id
            that is neither a string nor a whole number
    -32602  a message with params that are no object, or with half of a surrogate pair in it
"""

import json
from typing import Any, NamedTuple

from autopoll.gateway import strict_json

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602

Id = str | int | float | None


class RpcError(NamedTuple):
    """What is wrong with a message; `is_sent` unless nobody waits for an answer to it."""

    code: int
    message: str
    id: Id = None
    is_sent: bool = True

    def fields(self) -> dict[str, Any]:
        """Return the error as it is sent."""
        error = {"code": self.code, "message": self.message}
        return {"jsonrpc": "2.0", "id": self.id, "error": error}

    def line(self) -> str:
        """Return the error as a line."""
        return json.dumps(self.fields()) + "\n"


def parse(data: bytes) -> tuple[dict[str, Any], list[RpcError]]:
    """Return a message, and what is wrong with it; the message counts only when that is nothing."""
    try:
        value = strict_json.decode(data)
    except strict_json.NotJson as error:
        return {}, [RpcError(PARSE_ERROR, f"Parse error: {error}")]
    except strict_json.NotText as error:
        return {}, _errors(error.value) or [_in_params(error.value, f"Invalid params: {error}")]
    errors = _errors(value)
    return ({} if errors else value), errors


def _errors(value: Any) -> list[RpcError]:
    if isinstance(value, list):
        why = "Invalid Request: a batch; send each message by itself"
        waiting = [_id(each) for each in value if isinstance(each, dict) and "method" in each]
        found = [RpcError(INVALID_REQUEST, why, each) for each in waiting if each is not None]
        return found or [RpcError(INVALID_REQUEST, why)]
    if not isinstance(value, dict):
        return [RpcError(INVALID_REQUEST, "Invalid Request: not an object")]
    why = _why(value)
    if why:
        return [RpcError(INVALID_REQUEST, f"Invalid Request: {why}", _id(value))]
    if "method" in value and not isinstance(value.get("params"), dict | None):
        return [_in_params(value, "Invalid params: they are not an object")]
    return []


def _why(value: dict[str, Any]) -> str:
    """Return why an object is no message; empty when it is one."""
    if value.get("jsonrpc") != "2.0":
        return 'jsonrpc is not "2.0"'
    if "method" not in value:
        return "" if "id" in value and ("result" in value or "error" in value) else "no method"
    if not isinstance(value["method"], str):
        return "method is not a string"
    number = value.get("id", "")
    if isinstance(number, bool) or not isinstance(number, str | int):
        return "id is neither a string nor a whole number"
    return ""


def _in_params(value: dict[str, Any], why: str) -> RpcError:
    """Return the error of a message that is one; a notification, or an answer, waits for none."""
    is_sent = "method" in value and "id" in value
    return RpcError(INVALID_PARAMS, why, _id(value) if is_sent else None, is_sent)


def _id(value: dict[str, Any]) -> Id:
    """Return by what a client knows its request; None when it is nothing of the kind."""
    found = value.get("id")
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    return found
