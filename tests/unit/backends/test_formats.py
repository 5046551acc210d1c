"""How the formats are read: what is a heading, and what stays whole, on which lines."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.backends.context.formats.block import BlockKind
from autopoll.backends.context.paragraphs import MAX_CHARS, Paragraph, cut

SUFFIXES = [".md", ".rst", ".txt", ".html", ".ipynb", ".py", ""]


def kinds(text: str, suffix: str) -> list[tuple[str, int, int]]:
    return [(each.kind.value, each.first, each.last) for each in cut(text, suffix)]


def headings(text: str, suffix: str) -> list[str]:
    return [each.headings[-1] for each in cut(text, suffix) if each.headings]


@pytest.mark.parametrize(
    "code",
    [
        "```sh\n# no heading\n\n## nor this\n```",
        "~~~\n# no heading\n```\n# still code\n~~~",
        "````md\n```\n# no heading\n```\n````",
        "    # no heading\n\n    # nor this",
        "- item\n\n  ```\n  # no heading\n  ```",
        "<!--\n# no heading\n-->",
    ],
)
def test_a_comment_in_code_is_no_heading_in_markdown(code: str) -> None:
    assert headings(f"# Top\n\ntext\n\n{code}\n\n# End\n\nlast", ".md")[-1] == "End"
    assert not any("no" in each or "nor" in each for each in headings(f"# T\n\n{code}\n", ".md"))


def test_code_after_an_empty_line_is_kept_whole_and_named() -> None:
    text = "Run:\n\n```sh\none\n\ntwo\n```\n\n    three\n\n    four\n\nlast"
    assert kinds(text, ".md") == [
        ("paragraph", 1, 1), ("code", 3, 7), ("code", 9, 11), ("paragraph", 13, 13),
    ]  # fmt: skip


def test_a_table_is_kept_whole_and_a_piece_of_a_long_one_has_its_head() -> None:
    row = f"| {'x' * 80} | y |"
    text = "\n".join(["| key | meaning |", "| --- | --- |", *[row] * 30])
    first, *rest = cut(text, ".md")
    assert {each.kind for each in (first, *rest)} == {BlockKind.TABLE}
    assert first.lead == ""
    assert {each.lead for each in rest} == {"| key | meaning |\n| --- | --- |"}
    assert rest[-1].last == 32


def test_front_matter_is_no_text_and_its_rule_no_title() -> None:
    text = "---\ntitle: x\n# comment\n---\n\n# Top\n\ntext"
    assert kinds(text, ".md")[0] == ("front matter", 1, 4)
    assert headings(text, ".md") == ["Top"]


def test_titles_of_restructured_text_have_levels_by_the_order_of_their_styles() -> None:
    text = "=====\nA top\n=====\n\nB\n---\n\nC one\n~~~~~\n\nx\n\nD two\n-----\n\ny\n\nE\n~~~\n\nz"
    assert [each.headings for each in cut(text, ".rst")][-3:] == [
        ("A top", "B", "C one"), ("A top", "D two"), ("A top", "D two", "E"),
    ]  # fmt: skip


def test_what_follows_two_colons_is_code_with_its_empty_lines() -> None:
    text = "Do this::\n\n   # no title\n   =====\n\n   more\n\nand that.\n"
    assert kinds(text, ".rst") == [("paragraph", 1, 1), ("code", 3, 6), ("paragraph", 8, 8)]


def test_a_directive_that_describes_something_is_its_heading() -> None:
    text = (
        "Mod\n===\n\n.. function:: run(args)\n              start(args)\n\n   Runs it.\n\n"
        "   .. versionadded:: 3\n\n.. class:: Popen()\n\n   A process.\n\n"
        "   .. method:: wait()\n\n      Waits.\n\nAfter.\n"
    )
    found = [(each.headings, each.text.split("\n")[-1].strip()) for each in cut(text, ".rst")]
    assert (("Mod", "run(args)"), "Runs it.") in found
    assert (("Mod", "Popen()", "wait()"), "Waits.") in found
    assert found[-1] == (("Mod",), "After.")


def test_tables_of_restructured_text_are_kept_whole() -> None:
    simple = "===  ===\na    b\n===  ===\n1    2\n\n3    4\n===  ==="
    grid = "+---+---+\n| a | b |\n+===+===+\n| 1 | 2 |\n+---+---+"
    assert kinds(f"{simple}\n\n{grid}\n\ntext", ".rst") == [
        ("table", 1, 7), ("table", 9, 13), ("paragraph", 15, 15),
    ]  # fmt: skip


def test_roles_are_no_part_of_a_title() -> None:
    text = ":mod:`json` --- The :class:`Encoder <json.Encoder>` of ``JSON``\n" + "=" * 70 + "\n\nx"
    assert headings(text, ".rst") == ["json --- The Encoder of JSON"]


def test_a_hash_begins_no_title_in_plain_text() -> None:
    assert headings("# a comment\nkey = value\n\nTitle\n-----\n\ntext", ".txt") == ["Title"]


def test_html_gives_its_text_on_the_lines_where_it_stands() -> None:
    text = (
        "<html><head><title>no</title><style>p {}</style></head>\n<body>\n<h1>Top &amp;\n more</h1>"
        "\n<p>One <b>two</b>\nthree.</p><p>Four.</p>\n<pre>\n  # code\n\n  more\n</pre>\n"
        "<script>no()</script>\n<table><tr><th>a</th></tr>\n<tr><td>1</td></tr></table>\n"
    )
    paragraphs = cut(text, ".html")
    assert {each.headings for each in paragraphs} == {("Top & more",)}
    assert not any("no" in each.text.split() or "no()" in each.text for each in paragraphs)
    [code] = [each for each in paragraphs if each.kind is BlockKind.CODE]
    assert (code.first, code.last) == (7, 10)
    assert "  # code\n\n  more" in code.text
    [table] = [each for each in paragraphs if each.kind is BlockKind.TABLE]
    assert (table.first, table.last) == (13, 14)


def test_a_notebook_gives_its_sources_on_the_lines_where_they_stand() -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Top\n", "\n", "Some text."]},
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": ["# no title\n", "run()"]},
    ]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1)
    lines = text.split("\n")
    prose, code = cut(text, ".ipynb")
    assert (prose.headings, prose.text.split("\n")[-1]) == (("Top",), "Some text.")
    assert "Some text." in lines[prose.last - 1]
    assert (code.kind, code.text) == (BlockKind.CODE, "# no title\nrun()")
    assert "run()" in lines[code.last - 1]


def test_a_notebook_on_one_line_is_read_as_it_stands() -> None:
    text = json.dumps({"cells": [{"cell_type": "markdown", "source": ["A text."]}]})
    assert "A text." in cut(text, ".ipynb")[0].text


WORDS = [
    "# H", "word " * 30, "", "- item", "| r |", "| a | b |", "|---|---|", "```", "x" * 2000, "===",
    "---", "Title", "text::", "   deep", ".. function:: f()", ".. code::", "<!--", "-->", "=== ===",
    "+--+", "<p>", "</p>", "<pre>", '   "source": [', '    "x"', "   ]", "\t\tx",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40), st.sampled_from(SUFFIXES))
def test_whatever_a_text_holds_its_paragraphs_are_in_order_and_within_the_limit(
    lines: list[str], suffix: str
) -> None:
    text = "\n".join(lines)
    paragraphs = cut(text, suffix)
    assert all(len(each.text) <= MAX_CHARS for each in paragraphs)
    assert all(1 <= each.first <= each.last <= len(lines) for each in paragraphs)
    for before, after in pairwise(paragraphs):
        assert before.last <= after.first
    if suffix != ".html":  # of which the tags are left out
        assert nothing_is_lost(text, paragraphs) or suffix == ".ipynb"


def nothing_is_lost(text: str, paragraphs: list[Paragraph]) -> bool:
    return "".join("".join(each.text for each in paragraphs).split()) == "".join(text.split())
