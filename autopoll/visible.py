"""Text from anywhere, made harmless for whoever reads it on a terminal or in a pipe.

Control characters drive a terminal: they move the cursor, set its title, write to the clipboard, or
hide what stands there. Bidirectional controls show a text in another order than it is read by
programs. Both become visible escapes, as in `\\x1b`, and everything that prints stays as it is.
"""

import re

# C0 but for tab and line feed, DEL, C1; the Unicode property Bidi_Control; line and paragraph
# separator; halves of surrogate pairs, which are no characters and which nothing can encode.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# The same in UTF-8, of what JSON does not escape by itself.
_HARMFUL_JSON = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
)


def visible(text: str) -> str:
    """Return text of which nothing drives a terminal; CR LF ends a line as LF does."""
    return _HARMFUL.sub(_escape, text.replace("\r\n", "\n"))


def visible_json(data: bytes) -> bytes:
    """Return the same JSON value, written so that nothing in it drives a terminal."""
    return _HARMFUL_JSON.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), data)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
