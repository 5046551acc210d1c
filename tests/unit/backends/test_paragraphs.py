"""How a text is cut into paragraphs that know their lines and headings."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.backends.context.paragraphs import MAX_CHARS, cut

TEXT = """\
# Top

First paragraph
of two lines.

## Inner

- one item
- another
  that goes on

| a | b |
| --- | --- |
| 1 | 2 |
| 3 | 4 |

```sh
run this

and that # no heading
```

Underlined
----------

Last."""


def spans(text: str, suffix: str = ".md") -> list[tuple[int, int]]:
    return [(paragraph.first, paragraph.last) for paragraph in cut(text, suffix)]


def test_paragraphs_items_tables_and_fences_are_cut_with_their_lines() -> None:
    assert spans(TEXT) == [(1, 4), (6, 8), (9, 10), (12, 15), (17, 21), (23, 26)]


def test_each_paragraph_knows_the_headings_above_it() -> None:
    assert [paragraph.headings for paragraph in cut(TEXT, ".md")] == [
        ("Top",), *[("Top", "Inner")] * 4, ("Top", "Underlined"),
    ]  # fmt: skip


def test_a_comment_in_code_is_no_heading_and_a_definition_is() -> None:
    code = "# a comment\n\ndef start(self):\n    pass\n\n    more()\n\nclass Stop:\n    pass\n"
    paragraphs = cut(code, ".py")
    assert [paragraph.headings for paragraph in paragraphs] == [
        (), ("def start",), ("def start",), ("class Stop",),
    ]  # fmt: skip
    assert spans(code, ".py") == [(1, 1), (3, 4), (6, 6), (8, 9)]


def test_a_section_without_a_text_is_a_paragraph() -> None:
    assert spans("# A\n\n# B\n\ntext\n\n# C") == [(1, 1), (3, 5), (7, 7)]


@pytest.mark.parametrize("text", ["", "\n\n\n", "   \n\t\n"])
def test_an_empty_text_has_no_paragraph(text: str) -> None:
    assert cut(text, ".md") == []


def test_windows_line_ends_count_as_one_line_each() -> None:
    assert spans("one\r\n\r\ntwo\r\nthree\r\n") == [(1, 1), (3, 4)]


def test_a_form_feed_ends_no_line() -> None:
    assert spans("one\x0ctwo\n\nthree") == [(1, 1), (3, 3)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["# H", "word " * 30, "", "- item", "| r |", "```", "x" * 2000, "==="])
    ),
    st.sampled_from([".md", ".py"]),
)
def test_every_word_is_in_one_paragraph_and_none_is_over_the_limit(
    lines: list[str], suffix: str
) -> None:
    text = "\n".join(lines)
    paragraphs = cut(text, suffix)
    assert "".join("".join(p.text for p in paragraphs).split()) == "".join(text.split())
    assert all(len(paragraph.text) <= MAX_CHARS for paragraph in paragraphs)
    bounds = [(paragraph.first, paragraph.last) for paragraph in paragraphs]
    assert bounds == sorted(bounds)
    for before, after in pairwise(bounds):
        assert before[1] <= after[0]


def test_what_stands_in_the_cited_lines_is_the_paragraph() -> None:
    for path in (Path(__file__).parents[2] / "data" / "manual").glob("*.md"):
        lines = path.read_text().split("\n")
        for paragraph in cut(path.read_text(), path.suffix):
            cited = "\n".join(lines[paragraph.first - 1 : paragraph.last])
            assert cited.rstrip() == paragraph.text.rstrip()


def test_a_minified_file_of_a_megabyte_is_cut_in_no_time() -> None:
    text = "".join(random.Random(1).choices("abc;", k=1_000_000))
    assert all(len(paragraph.text) <= MAX_CHARS for paragraph in cut(text, ".js"))
