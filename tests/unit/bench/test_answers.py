"""The questions that are made of documentation, and how answers to them are judged."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from autopoll.errors import UsageError
from bench.answers import __main__ as answers
from bench.answers.contenders import CONTENDERS, DENSE_MODEL
from bench.answers.corpora import GROUPS, Corpus, Document, NotFetched, documents, is_faq
from bench.answers.questions import (
    Place,
    Question,
    QuestionSet,
    headings,
    unanswerable,
    without_headings,
)
from bench.answers.turn import rank, take

RST = """\
FAQ
===

General
-------

What is `a pipe`_?
~~~~~~~~~~~~~~~~~~

A pair of ends.

Reading
-------

How do I read *one*?
~~~~~~~~~~~~~~~~~~~~

Open it, and wait.
"""


def test_a_heading_that_is_a_question_is_emptied_and_its_answer_keeps_its_lines() -> None:
    bare, asked = without_headings(Document("x/faq.rst", RST))
    assert [question.text for question in asked] == ["What is a pipe?", "How do I read *one*?"]
    assert "?" not in bare.text
    assert "~" not in bare.text
    assert [line for line in bare.text.split("\n") if line.strip("-= ")] == [
        "FAQ", "General", "A pair of ends.", "Reading", "Open it, and wait.",
    ]  # fmt: skip
    for question, answer in zip(asked, ("A pair of ends.", "Open it, and wait."), strict=True):
        at = bare.text.split("\n").index(answer) + 1
        assert question.places[0].meets(Place("x/faq.rst", at, at))


def test_each_section_of_a_heading_answers_it_with_what_stands_further_in() -> None:
    text = "# A b\n\nOne.\n\n## C d\n\nTwo.\n\n# E\n\nThree.\n"
    found = {each.text: each.places for each in headings([Document("x/a.md", text)], 10)}
    assert found == {
        "A b": (Place("x/a.md", 1, 7),),
        "C d": (Place("x/a.md", 5, 7),),
    }


def test_headings_are_the_same_ones_each_time() -> None:
    text = "".join(f"# Heading {number}\n\nText.\n\n" for number in range(99))
    document = Document("x/a.md", text)
    assert headings([document], 10) == headings([document], 10)
    assert len(headings([document], 10)) == 10


def test_each_group_has_a_hundred_questions_without_an_answer() -> None:
    asked = [unanswerable(group.name) for group in GROUPS]
    assert [len(each) for each in asked] == [100, 100]
    assert len({question.text for each in asked for question in each}) == 200


class Scripted:
    def __init__(self, *passages: Place) -> None:
        self._passages = passages

    def ask(self, question: str) -> Sequence[Place]:
        return self._passages


def test_the_rank_is_that_of_the_first_passage_with_lines_of_the_right_section() -> None:
    question = Question("?", (Place("a", 10, 20),))
    before, after, other = Place("a", 1, 9), Place("a", 20, 30), Place("b", 10, 20)
    assert rank(Scripted(before, other, after), question) == 3
    assert rank(Scripted(before, other), question) == 0
    assert rank(Scripted(), question) is None


@pytest.mark.parametrize(
    "name", [name for name in CONTENDERS if name not in ("bm25s", DENSE_MODEL)]
)
def test_a_turn_counts_what_was_right_and_what_was_answered(name: str) -> None:
    text = "# One\n\nThe lighthouse is red.\n\n# Two\n\nThe windmill is green.\n"
    right, wrong = Place("x/a.md", 1, 3), Place("x/a.md", 5, 7)
    asked = [
        Question("lighthouse", (right,)),
        Question("windmill", (right,)),
        Question("zebra", (right, wrong)),
    ]
    score = take(name, QuestionSet("g", "q", [Document("x/a.md", text)], asked))
    assert (score.count, score.hit1, score.hit3, score.answered) == (3, 0.333, 0.333, 0.667)


def test_perl_s_format_is_read_as_markdown_line_by_line(tmp_path: Path) -> None:
    pod = "=head1 FAQ\n\n=head2 What is C<$_>?\n\nSee L<B<that> one|perlvar>.\n\n  B<x>\n\n=cut\n"
    folder = tmp_path / "p" / "usr" / "pod"
    folder.mkdir(parents=True)
    (folder / "faq.pod").write_text(pod)
    corpus = Corpus(name="p", package="p", docs=("**/pod",), faq=("faq.md",))
    (document,) = documents(corpus, tmp_path)
    assert document.path == "p/faq.md"
    assert is_faq(corpus, document)
    assert document.text.split("\n") == [
        "# FAQ", "", "## What is $_?", "", "See that one.", "", "      B<x>", "", "", "",
    ]  # fmt: skip


def test_a_package_that_cannot_be_got_is_named_and_leaves_nothing_that_passes_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotFetched, match="there is no apt-get here"):
        documents(GROUPS[1].corpora[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_documentation_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(NotFetched, match="has no documentation in docs"):
        documents(Corpus(name="p", package="p==1", docs=("docs",)), tmp_path)


def test_a_cache_that_cannot_be_made_is_named_with_its_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["answers", "--cache", "/proc/none"])
    with pytest.raises(UsageError, match="cannot be kept in /proc/none") as raised:
        answers.main()
    assert "--cache" in raised.value.mend


def test_an_unknown_contender_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        answers.parser().parse_args(["--only", "bm26"])
    assert "there is no bm26; there are: SQLite FTS5, autopoll" in capsys.readouterr().err
