"""Finds the error in the body of a service's response, wherever it may stand; pure."""

import re
from typing import Any, NamedTuple

_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.I | re.S)
_READ = 20_000  # characters of a page that are looked at


class ErrorBody(NamedTuple):
    """The error in a body: type and code, as far as there are any, and the words."""

    kind: str
    words: str


def read_error(body: Any) -> ErrorBody | None:
    """Return the error in a body of JSON; None when there is none."""
    if isinstance(body, list):
        return read_error(body[0]) if body and isinstance(body[0], dict) else None
    if not isinstance(body, dict):
        return None
    inner = body.get("error") or body.get("errors")
    if not inner and (body.get("object") == "error" or body.get("type") == "error"):
        inner = body
    if not inner and "choices" not in body and (isinstance(body.get("detail"), str | list)):
        inner = body
    if not inner and "choices" not in body and body.keys() & {"code", "status", "success"}:
        inner = body if isinstance(body.get("message") or body.get("msg"), str) else None
    if not inner:
        return None
    kinds = [*_kinds(inner), *_kinds({"type": body.get("error_type")})]
    return ErrorBody(" ".join(kinds), words_of(body) or str(inner))


def words_of(body: Any) -> str:
    """Return the words of an error: of JSON, of a page without its markup, or a text as it is."""
    if isinstance(body, str):
        return _plain(body)
    if isinstance(body, list):
        return words_of(body[0]) if body else ""
    if not isinstance(body, dict):
        return ""
    names = ("error", "errors", "message", "detail", "msg", "error_msg", "error_message")
    return next((words for name in names if (words := words_of(body.get(name)))), "")


def kind_of(body: Any) -> str:
    """Return type and code of an error; some services put a status there."""
    if isinstance(body, list):
        return kind_of(body[0]) if body else ""
    return " ".join(_kinds(body.get("error", body))) if isinstance(body, dict) else ""


def _kinds(inner: Any) -> list[str]:
    if isinstance(inner, list):
        inner = inner[0] if inner else None
    if not isinstance(inner, dict):
        return []
    details = inner.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    parts = (inner.get("code"), inner.get("type"), inner.get("status"), code)
    return [str(part) for part in parts if isinstance(part, str | int) and str(part) != "error"]


def _plain(text: str) -> str:
    text = text[:_READ].strip()
    return " ".join(_MARKUP.sub(" ", text).split()) if text.startswith("<") else text
