"""Text for people drives no terminal, whatever it holds; what prints stays; JSON stays exact."""

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopoll.text import visible, visible_json

DRIVING = {
    "\x1b[2J": "\\x1b[2J",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x1b]52;c;Zm9v\x1b\\": "\\x1b]52;c;Zm9v\\x1b\\",
    "\x9b2J": "\\x9b2J",
    "over\rwritten": "over\\x0dwritten",
    "\x07\b\v\f\x7f\0": "\\x07\\x08\\x0b\\x0c\\x7f\\x00",
    "a\u202eb\u2066c\u200f": "a\\u202eb\\u2066c\\u200f",
    "a\u2028b\u2029c\x85": "a\\u2028b\\u2029c\\x85",
    "half \ud83d": "half \\ud83d",
    "\udcff": "\\udcff",
}
PRINTING = [
    "",
    "two\nlines\tand a tab",
    "Ünïcödé, 漢字, עברית, عربى, हिन्दी, ไทย",
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 e\u0301 soft\u00adhyphen",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a\u200bb\u00a0c\u3000d",
    "[bold]no markup[/bold] :smile: \\x1b {} %s",
]


@pytest.mark.parametrize("text", DRIVING)
def test_what_drives_a_terminal_becomes_visible(text: str) -> None:
    assert visible(text) == DRIVING[text]


@pytest.mark.parametrize("text", PRINTING)
def test_what_prints_stays_whole(text: str) -> None:
    assert visible(text) == text


def test_cr_lf_is_the_end_of_a_line_and_a_cr_alone_is_not() -> None:
    assert visible("a\r\nb\r\r\n") == "a\nb\\x0d\n"


def test_of_all_characters_exactly_those_of_the_rule_change() -> None:
    bidi = {0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(code))
        driving = kind in ("Cc", "Cs", "Zl", "Zp") or code in bidi
        assert (visible(chr(code)) != chr(code)) == (driving and chr(code) not in "\n\t"), hex(code)


@given(st.text())
def test_json_is_the_same_value_and_drives_no_terminal(text: str) -> None:
    data = visible_json(json.dumps([text], ensure_ascii=False).encode())
    assert json.loads(data) == [text]
    assert visible(data.decode()) == data.decode()
