"""Text that is none, as half a surrogate pair, in every field that goes into a frame."""

import json
from typing import Any

import msgspec
import pytest

from autopoll.message import Answer, read_answer, read_query
from autopoll.request import Failure, Progress, Reply, Request, write
from autopoll.text import storable, valid


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
