"""Bytes of files made text, in whatever encoding they are."""

import codecs

import pytest

from autopoll.backends.context.decoding import NoText, decode

TEXT = "Grüße\nаж 灯台 🔦\n"
WESTERN = "Caf\xe9 ouvert \u2014 \xe0 midi.\n"


@pytest.mark.parametrize(
    ("data", "text", "how"),
    [
        (TEXT.encode(), TEXT, ""),
        (b"", "", ""),
        (codecs.BOM_UTF8 + TEXT.encode(), TEXT, ""),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), TEXT, "read as UTF-16-LE"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), TEXT, "read as UTF-16-BE"),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), TEXT, "read as UTF-32-LE"),
        (codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"), TEXT, "read as UTF-32-BE"),
        (codecs.BOM_UTF16_LE, "", "read as UTF-16-LE"),
        (WESTERN.encode("cp1252"), WESTERN, "read as cp1252, for it is not UTF-8"),
        (b"\xe9t\xe9", "\xe9t\xe9", "read as cp1252, for it is not UTF-8"),
        (b"caf\xe9 \x81", "caf\xe9 \x81", "read as Latin-1, for it is not UTF-8"),
    ],
)
def test_text_is_read_in_its_encoding_and_how_is_told(data: bytes, text: str, how: str) -> None:
    assert decode(data) == (text, how)


def test_utf8_with_a_bad_place_in_it_stays_utf8_and_says_so() -> None:
    text, how = decode("Grüße aus Köln, schöne".encode() + b"\xff\n")
    assert text == "Grüße aus Köln, schöne\N{REPLACEMENT CHARACTER}\n"
    assert how == "read as UTF-8, 1 places in it are not"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x89PNG\0\0", "is binary, not text"),
        (TEXT.encode("utf-16-le"), "is binary, not text"),  # without a mark
        (
            codecs.BOM_UTF16_LE + b"a\0b",
            "has the byte order mark of UTF-16-LE and is not UTF-16-LE",
        ),
        (codecs.BOM_UTF16_BE + b"\xd8\x00\x00\x41", "has the byte order mark of UTF-16-BE"),
        (codecs.BOM_UTF16_LE + b"\0\0\0\0a\0", "UTF-32-LE"),
        (codecs.BOM_UTF16_BE + b"\0a\0\0", "is binary, not text"),
        ("Вечерний звон".encode("koi8-r"), "neither UTF-8 nor any other text"),
        ("灯台は赤い。".encode("shift-jis"), "neither UTF-8 nor any other text"),
        (b"\x1f\x8b\x08" + bytes(range(1, 256)), "neither UTF-8 nor any other text"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(NoText, match=why):
        decode(data)
