"""What people read of a message: the question, the answer or the text, not what they come in."""

import json

import pytest

from autopoll.message import Answer, Content, read_content, write_answer, write_query

QUESTION = 'Wie "geht" das?\n\tGrüße 質問 🙂'


def test_a_question_is_read_without_its_envelope() -> None:
    asked = read_content(write_query(QUESTION, "q-1"), '{"lane":"own"}')
    assert asked == Content("query", QUESTION)
    assert read_content(QUESTION) == Content("text", QUESTION)


@pytest.mark.parametrize("question", [write_query(QUESTION, "q-1"), QUESTION])
@pytest.mark.parametrize("error", [False, True])
def test_an_answer_is_read_in_whichever_form_it_was_written(question: str, error: bool) -> None:
    answer = Answer(text="So.", sources=["a.md:1-2"], error=error)
    text, metadata = write_answer(question, answer, message_id=1, shard="m", attempt=1, seconds=1.0)
    words = "error: So." if error else "So."
    assert read_content(text, metadata) == Content("response", words, ["a.md:1-2"])


@pytest.mark.parametrize("escaped", [True, False])
def test_of_a_message_that_was_cut_off_the_beginning_of_the_question_is_read(escaped: bool) -> None:
    fields = {"type": "query", "query_id": "q-1", "question": QUESTION}
    text = json.dumps(fields, ensure_ascii=escaped)
    begin = text.index("Wie")
    for end in range(begin, len(text)):
        found = read_content(text[:end]).text
        if not escaped or "\ufffd" not in found:  # half of a character that has two escapes
            assert QUESTION.startswith(found), found


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "[1]", "{}", '{"type":"status","s":1}', '{"question":7}', "null", "\ufeff{",
        '{"type":"response","answer":5}', '{"type":["x"]}', "{" * 5000, '{"a":' * 5000,
    ],
)  # fmt: skip
def test_what_holds_no_words_is_shown_as_it_is(text: str) -> None:
    assert read_content(text).text == text
    assert read_content(text, text).text == text
