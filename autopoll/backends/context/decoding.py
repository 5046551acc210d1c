"""Decodes a file's bytes: UTF-8, the encoding of a byte order mark, or old Western text; pure."""

import codecs
from typing import NamedTuple

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MOST_HIGH = 0.3  # share of bytes beyond ASCII; Western languages have less, other scripts more
_FEW = 4  # bytes that prove nothing in a short text
_MOST_CONTROL = 0.01

_HIGH = bytes(range(0x80, 0x100))
_LEADS = bytes(range(0xC2, 0xF5))  # by which a character of several bytes begins in UTF-8
_CONTROL = bytes({*range(0x20), 0x7F} - {*b"\t\n\f\r\x1b"})


class Decoded(NamedTuple):
    """A text, and how it was read where that is not plain UTF-8."""

    text: str
    how: str = ""


class NoText(ValueError):
    """Bytes that are no text; the message says why, as the end of a sentence about the file."""


def decode(data: bytes) -> Decoded:
    """Return the text that the bytes are; raise NoText."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], encoding)
    if b"\0" in data:
        raise NoText("is binary, not text")
    try:
        return Decoded(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _odd(data)


def _marked(data: bytes, encoding: str) -> Decoded:
    name = encoding.upper()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise NoText(f"has the byte order mark of {name} and is not {name}") from error
    if "\0" in text:
        raise NoText("is binary, not text")
    return Decoded(text, f"read as {name}")


def _odd(data: bytes) -> Decoded:
    """Read what is not UTF-8 as a whole: mostly UTF-8, or Western text of before."""
    text = data.decode("utf-8-sig", "replace")
    bad = text.count("\ufffd")
    leads = _count(data, _LEADS)
    if data.startswith(codecs.BOM_UTF8) or bad * 2 < leads:
        return Decoded(text, f"read as UTF-8, {bad:,} places in it are not")
    if _count(data, _HIGH) > max(_FEW, _MOST_HIGH * len(data)) or (
        _count(data, _CONTROL) > _MOST_CONTROL * len(data)
    ):
        raise NoText("is neither UTF-8 nor any other text that is known; convert it to UTF-8")
    try:
        return Decoded(data.decode("cp1252"), "read as cp1252, for it is not UTF-8")
    except UnicodeDecodeError:  # five bytes mean nothing there, and a control in Latin-1
        return Decoded(data.decode("latin-1"), "read as Latin-1, for it is not UTF-8")


def _count(data: bytes, of: bytes) -> int:
    return len(data) - len(data.translate(None, of))
