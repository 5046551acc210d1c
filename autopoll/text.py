"""Text as other programs may have left it, made such that every reader can take it."""

MARK = "\N{REPLACEMENT CHARACTER}"


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
