"""Text that is none, or that drives a terminal: made valid in every frame, and harmless to show."""

import json
import sys
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopoll.message import Answer, read_answer, read_query
from autopoll.request import Failure, Progress, Reply, Request, write
from autopoll.text import storable, valid, visible, visible_json


class Kind(str):
    """A text of a library's own."""


ODD = {
    "plain": ("so", "so"),
    "wide": ("é 漢 \U0001f600", "é 漢 \U0001f600"),
    "first half": ("a \ud83d", "a \ufffd"),
    "second half": ("\ude00 b", "\ufffd b"),
    "both halves": ("\ud83d\ude00", "\U0001f600"),
    "the wrong way round": ("\ude00\ud83d", "\ufffd\ufffd"),
    "one too many": ("é\ud83d\ud83d\ude00", "é\ufffd\U0001f600"),
    "an undecoded byte": ("\udce9", "\ufffd"),
    "NUL": ("a\0b", "a\0b"),
    "a mark": ("\ufeffa", "\ufeffa"),
    "no character": ("\uffff", "\uffff"),
    "a kind of str": (Kind("a\ud83d"), "a\ufffd"),
    "nothing": ("", ""),
}
REQUEST: dict[str, Any] = {
    "delivery": 1, "fence": 1, "attempt": 1, "timeout_ms": 1, "conversation": "c", "question": "q",
}  # fmt: skip
FIELDS = {
    "answer": (lambda text: Reply(answer=Answer(text=text)), lambda said: said.answer.text),
    "source": (
        lambda text: Reply(answer=Answer(text="so", sources=["a.md", text])),
        lambda said: said.answer.sources[1],
    ),
    "failure": (lambda text: Failure(kind="retriable", message=text), lambda said: said.message),
    "kind": (lambda text: Failure(kind=text, message="m"), lambda said: said.kind),
    "note": (lambda text: Progress(text=text), lambda said: said.text),
    "piece": (lambda text: Progress(piece=text), lambda said: said.piece),
    "question": (
        lambda text: Request(**{**REQUEST, "question": text}),
        lambda said: said.question,
    ),
    "conversation": (
        lambda text: Request(**{**REQUEST, "conversation": text}),
        lambda said: said.conversation,
    ),
    "context file": (
        lambda text: Request(**REQUEST, context_file=text),
        lambda said: said.context_file,
    ),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", FIELDS)
def test_whatever_text_stands_in_a_field_goes_into_the_frame_as_valid_text(field, odd) -> None:
    make, take = FIELDS[field]
    text, became = ODD[odd]
    said = make(text)
    assert take(msgspec.msgpack.decode(write(said), type=type(said))) == became


@pytest.mark.parametrize("odd", ODD)
def test_text_is_made_valid_and_what_is_valid_stays_as_it_is(odd) -> None:
    text, became = ODD[odd]
    assert valid(text) == became
    assert storable(text) == became.replace("\0", "\ufffd")


@pytest.mark.parametrize("thing", [object(), 10**30, {"a": object()}, [object()]])
def test_what_cannot_be_sent_at_all_is_an_error_that_is_caught_by_name(thing) -> None:
    with pytest.raises((TypeError, OverflowError)):
        write(Reply(answer=Answer(text=thing)))


@pytest.mark.parametrize("odd", [name for name in ODD if name not in ("NUL", "a mark")])
def test_an_answer_of_a_foreign_program_is_read_as_valid_text(odd) -> None:
    text, became = ODD[odd]
    escaped = {"type": "response", "answer": text, "sources": [text]}
    answer = read_answer(json.dumps(escaped), json.dumps({"sources": [text]}))
    assert (answer.text, answer.sources) == (became, [became])


@pytest.mark.parametrize("before", ["", "\ufeff", " \r\n", "\ufeff \n", "\n\ufeff", "\xa0"])
def test_a_question_in_json_is_known_behind_a_mark_and_blanks(before) -> None:
    query = read_query(before + '{"type": "query", "query_id": 7, "question": "why?"}\r\n')
    assert (query.question, query.query_id) == ("why?", 7)


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
