"""What decides between sections, beside their words."""

from pathlib import Path

import pytest

from autopoll.backends.context import ranking
from autopoll.backends.context.paragraphs import cut
from autopoll.backends.context.search import Hit, Index


def first(question: str, **texts: str) -> Hit:
    index = Index()
    for name, text in texts.items():
        path = Path(f"/{name.replace('__', '/')}.md")
        index.put(path, str(path.with_suffix(""))[1:], cut(text, ".md"))
    return index.search(question, 3)[0]


FILLER = "\n\n".join(f"Section {n} about pipes and workers, restarted." for n in range(30))


@pytest.mark.parametrize(
    "question", ["Restarting a worker", "restarting a worker", "How do I restart the worker?"]
)
def test_the_section_whose_heading_is_the_question_comes_first(question: str) -> None:
    crowd = "Restart the worker, restart a worker, workers restart. " * 8
    hit = first(
        question,
        a=f"# Workers\n\n{crowd}\n\n{crowd}",
        b="# Guide\n\n## Restarting a worker\n\nType this.\n\n## Other\n\nNo.",
        c=FILLER,
    )
    assert (hit.path.stem, hit.best.headings[-1]) == ("b", "Restarting a worker")


def test_a_heading_word_for_word_beats_one_of_the_same_stems() -> None:
    assert first("Logging", a="# Logged\n\nx y", b="# Logging\n\nz w").path.stem == "b"


def test_a_name_of_several_parts_is_looked_for_as_one() -> None:
    hit = first(
        "What does subprocess.run return?",
        a="# A\n\nThe subprocess returns when you run it. Run returns. A subprocess returns.",
        b="# B\n\nAs subprocess.run returns a value, look at it.",
        c=FILLER,
    )
    assert hit.path.stem == "b"


def test_release_notes_count_less_than_what_tells_how_it_is_now() -> None:
    text = "# T\n\nThe retries of a worker are counted."
    hit = first("How are retries of a worker counted?", changelog=text, notes=text, c=FILLER)
    assert hit.path.stem == "notes"


def test_words_near_each_other_count_more_than_words_far_apart() -> None:
    far = "The limit is set. " + "Nothing of it matters here or there. " * 12 + "Memory is cheap."
    near = "The memory limit is set. " + "Nothing of it matters here or there. " * 12 + "It is."
    assert first("memory limit", a=f"# A\n\n{far}", b=f"# B\n\n{near}", c=FILLER).path.stem == "b"


def test_words_near_each_other_count_where_none_stand_side_by_side() -> None:
    rest = "Nothing of it matters here or there. " * 12
    far = f"The limit is set. {rest} Memory is cheap."
    near = f"Of memory there is a limit. {rest} It is so."
    assert first("memory limit", a=f"# A\n\n{far}", b=f"# B\n\n{near}", c=FILLER).path.stem == "b"


def test_a_passage_with_a_relative_of_a_word_beats_one_without() -> None:
    hit = first(
        "debug leaking pipes",
        a="# A\n\nThe painter looks into leaking pipes.",
        b="# B\n\nThe debugger looks into leaking pipes.",
        c=FILLER,
        d="# D\n\nWe debug, and debug.",
    )
    assert hit.path.stem == "b"


def test_code_is_shown_with_the_line_that_introduces_it() -> None:
    hit = first(
        "How do I drain a shard?", a="# A\n\nTo drain a shard:\n\n```\nfoo --bar\n```\n\nEnd."
    )
    assert [each.text for each in hit.paragraphs] == [
        "# A\n\nTo drain a shard:", "```\nfoo --bar\n```",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "news", "guide"),
    [
        ("docs/CHANGELOG", True, False), ("whatsnew/3.11", True, False),
        ("releases/v4.0.0", True, False), ("docs/changes-in-5.2", True, False),
        ("src/newsletter", False, False),
        ("faq/programming", False, True), ("howto/logging", False, True),
        ("tutorial/venv", False, True), ("library/json", False, False),
    ],
)  # fmt: skip
def test_news_and_guides_are_known_by_their_names(name: str, news: bool, guide: bool) -> None:
    assert (ranking.is_news(name), ranking.is_guide(name)) == (news, guide)


def test_words_side_by_side_as_in_the_question_beat_the_same_words_apart() -> None:
    assert (
        first(
            "the hot restart of workers",
            a="# A\n\nA restart of hot workers.",
            b="# B\n\nA hot restart of workers.",
            c=FILLER,
        ).path.stem
        == "b"
    )


def test_together_counts_the_neighbours_of_the_question_that_a_text_has() -> None:
    pairs = [("hot", "restart"), ("restart", "of")]
    assert ranking.together(pairs, ["a", "hot", "restart"]) == 0.5
    assert ranking.together(pairs, ["restart", "hot"]) == 0.0
    assert ranking.together([], ["hot"]) == 0.0


def test_richness_grows_ever_less_with_each_repetition_and_falls_with_length() -> None:
    weights = {"pipe": 2.0}
    once, twice, often = (
        ranking.richness(weights, ["pipe"] * count + ["x"] * (100 - count)) for count in (1, 2, 3)
    )
    assert 0 < often - twice < twice - once
    assert ranking.richness(weights, ["pipe"] + ["x"] * 20) > once
    assert ranking.richness(weights, ["x"]) == 0.0


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("debug", "the debugger", True),
        ("authoring", "its author", True), ("undef", "see undefined", True),
        ("list", "a listener", True), ("thread", "be multithreaded", True),
        ("debug", "debug the debugger", False), ("set", "a setting", False),
        ("pipe", "a type", False),
    ],
)  # fmt: skip
def test_a_relative_counts_where_the_word_itself_is_not(word: str, text: str, found: bool) -> None:
    assert ranking.relatives({word: 3.0}, text.split()) == (3.0 if found else 0.0)


@pytest.mark.parametrize(
    ("text", "is_verdict"),
    [
        ("Yes, with care.", True), ("No. It cannot.", True), ("*Yes*: it does.", True),
        ("# May I?\n\nNot really.", True), ("No arguments are taken.", False),
        ("It says yes.", False), ("Yesterday it did.", False), ("", False),
    ],
)  # fmt: skip
def test_a_yes_or_no_at_the_beginning_is_known(text: str, is_verdict: bool) -> None:
    assert ranking.is_verdict(text) == is_verdict


def test_a_yes_or_no_counts_for_a_question_that_wants_one_and_for_no_other() -> None:
    texts = {
        "a": "# A\n\nSome say that pipes are shared by workers, or so it is told.",
        "b": "# B\n\nNo, nobody says that of pipes, whatever the workers do, or shared it.",
        "c": FILLER,
    }
    assert first("Are pipes shared by workers?", **texts).path.stem == "b"
    assert first("Why are pipes shared by workers?", **texts).path.stem == "a"


def test_the_rarer_the_words_the_more_of_them_must_be_there() -> None:
    assert ranking.least(2.0) > 2 * ranking.least(1.0) > 0


def test_nearness_is_of_neighbours_in_the_question() -> None:
    weights = {"memory": 1.0, "limit": 1.0, "worker": 1.0}
    words = list(weights)
    assert ranking.nearness(words, weights, ["memory", "limit", "worker"]) == 1.0
    assert ranking.nearness(words, weights, ["limit", *["x"] * 30, "memory"]) == 0.0
    assert 0 < ranking.nearness(words, weights, ["memory", "x", "x", "limit"]) < 0.5
    assert ranking.nearness(["memory"], weights, ["memory"]) == 0.0


def test_likeness_counts_what_either_side_says_alone() -> None:
    weights = {"restart": 2.0, "worker": 1.0}
    assert ranking.likeness(weights, {"restart", "worker"}) == 1.0
    assert ranking.likeness(weights, {"other"}) == 0.0
    assert (
        ranking.likeness(weights, {"restart"})
        > ranking.likeness(weights, {"restart", "x", "y"})
        > 0
    )
