"""JSON as RFC 8259 and I-JSON have it, in both directions: what is not text never gets any further.

Python's parser takes more than that: NaN, numbers beyond all bounds, a key twice, half of a
surrogate pair (`"\\ud83d"`), which no UTF-8 can hold, and which would fail wherever it is written.
"""

import json
import math
from typing import Any

import msgspec

DEEPEST = 100  # levels of nesting; what goes on from here is read by recursion again

_BOM = b"\xef\xbb\xbf"


class NotJson(ValueError):
    """What was read is no JSON; the text says what is wrong, and where."""


class NotText(ValueError):
    """It is JSON, and a string in it is no text; `value` is what was read all the same."""

    def __init__(self, where: str, value: Any) -> None:
        super().__init__(f"{where} holds half of a surrogate pair, which is no text")
        self.value = value


def decode(data: bytes) -> Any:
    """Return what a JSON text holds; raise NotJson or NotText."""
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_never,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} (line {error.lineno} column {error.colno})") from None
    except RecursionError:
        raise NotJson(f"nested more than {DEEPEST} levels deep") from None
    except NotJson:
        raise
    except ValueError:  # Python's own bound
        raise NotJson("a number of too many digits") from None
    if (flaw := _flaw(value, 0)) is not None:
        raise NotText(flaw.lstrip(".") or "the text", value)
    return value


def encode(value: Any) -> bytes:
    """Return a record as JSON, with a question mark for what is no text: a file's name, say."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):  # or a number of more than 64 bits
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def text(value: str) -> str:
    """Return a text as it can be written."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise NotJson(f"the key {key[:100]!r} stands twice in one object")
            seen.add(key)
    return made


def _never(constant: str) -> Any:
    raise NotJson(f"{constant} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise NotJson(f"the number {digits[:30]} is too large")
    return value


def _flaw(value: Any, depth: int) -> str | None:
    """Return the path to the first string that is no text; raise NotJson beyond all depth."""
    if isinstance(value, str):
        return None if _is_text(value) else ""
    if isinstance(value, dict):
        parts = [(f".{key}", each) for key, each in value.items()]
        for key in value:
            if not _is_text(key):
                return f".{ascii(key)[:100]}"
    elif isinstance(value, list):
        parts = [(f"[{number}]", each) for number, each in enumerate(value)]
    else:
        return None
    if depth == DEEPEST:
        raise NotJson(f"nested more than {DEEPEST} levels deep")
    for name, each in parts:
        if (flaw := _flaw(each, depth + 1)) is not None:
            return f"{name}{flaw}"
    return None


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
