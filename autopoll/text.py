"""Text as other programs may have left it, made such that every reader can take it.

`valid` and `storable` make it UTF-8. `visible` makes it harmless on a terminal and in a pipe:
control characters move the cursor, set the title, write to the clipboard or hide what stands there,
and bidirectional controls show a text in another order than it is read by programs. Both become
visible escapes, as in `\\x1b`, and everything that prints stays as it is.
"""

import re

MARK = "\N{REPLACEMENT CHARACTER}"
# C0 but for tab and line feed, DEL, C1; the Unicode property Bidi_Control; line and paragraph
# separator; halves of surrogate pairs, which are no characters and which nothing can encode.
_HARMFUL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
# The same in UTF-8, of what JSON does not escape by itself.
_HARMFUL_JSON = rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"


def valid(text: str) -> str:
    """Return the text as UTF-8 can hold it.

    Two halves of a surrogate pair become their one character, and a half that stands alone U+FFFD:
    JSON's escapes let either in.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable(text: str) -> str:
    """Return valid text without NULs, which end C strings."""
    return valid(text).replace("\0", MARK)


def is_half(character: str) -> bool:
    """Tell whether a character, or "", is the first half of a surrogate pair."""
    return "\ud800" <= character <= "\udbff"


def visible(text: str) -> str:
    """Return text of which nothing drives a terminal; CR LF ends a line as LF does."""
    text = text.replace("\r\n", "\n")
    if text.replace("\n", "").isprintable():  # as most is, of what most commands print
        return text
    return re.sub(_HARMFUL, _escape, text)


def visible_json(data: bytes) -> bytes:
    """Return the same JSON value, written so that nothing in it drives a terminal."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return re.sub(_HARMFUL_JSON, lambda match: b"\\u%04x" % ord(match[0].decode()), data)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
