"""Citations in an answer: which are believed, which are dropped, and what is none."""

import time

import pytest

from autopoll.backends.context.citations import MOST, cited

LINES = {"docs/guide.md": 20, "docs/deep/notes.txt": 5, "src/notes.txt": 9, "README": 3}


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("It is red [docs/guide.md:3-7].", ["docs/guide.md:3-7"]),
        ("One line [docs/guide.md:20]", ["docs/guide.md:20-20"]),
        ("[docs/guide.md:1-2][README:1-3]", ["docs/guide.md:1-2", "README:1-3"]),
        ("[docs/guide.md:1-2, README:1-3]", ["docs/guide.md:1-2", "README:1-3"]),
        ("[docs/guide.md:1-2; 9-12, 14]", [f"docs/guide.md:{r}" for r in ("1-2", "9-12", "14-14")]),
        ("(docs/guide.md:3-7)", ["docs/guide.md:3-7"]),
        ("[`docs/guide.md:3-7`]", ["docs/guide.md:3-7"]),
        ("[docs/guide.md:L3-L7]", ["docs/guide.md:3-7"]),
        ("[docs/guide.md: 3 \u2013 7]", ["docs/guide.md:3-7"]),
        ("[./docs/guide.md:3-7]", ["docs/guide.md:3-7"]),
        ("[guide.md:3-7]", ["docs/guide.md:3-7"]),
        ("[/home/me/docs/guide.md:3-7]", ["docs/guide.md:3-7"]),
        ("[README:1-3] and again [README:1-3]", ["README:1-3"]),
        ("[docs/guide.md:3-7](https://example.org)", ["docs/guide.md:3-7"]),
    ],
)
def test_a_citation_that_holds_is_a_source(text: str, sources: list[str]) -> None:
    assert cited(text, LINES) == (sources, 0)


@pytest.mark.parametrize(
    "text",
    [
        "[docs/missing.md:1-2]",
        "[docs/guide.md:0-2]",
        "[docs/guide.md:7-3]",
        "[docs/guide.md:19-21]",
        "[docs/guide.md:999999999]",
        "[notes.txt:1-2]",  # two files could be meant
        "[../../etc/passwd:1-2]",
    ],
)
def test_a_citation_that_does_not_hold_is_dropped_and_counted(text: str) -> None:
    assert cited(text, LINES) == ([], 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "at [12:30-13] or (9:15)",
        "a[1:2] and [1-2] and [3]",
        "see [http://example.org:80]",
        "[docs/guide.md]",
        "[docs/guide.md:]",
        "[docs/guide.md:3-7",
        "[docs/guide.md:1234567890]",
        "[note: 3 apples]",
    ],
)
def test_what_is_no_citation_is_neither_a_source_nor_counted(text: str) -> None:
    assert cited(text, LINES) == ([], 0)


def test_false_ones_beside_true_ones_do_not_spoil_them() -> None:
    text = "[docs/guide.md:1-2, gone.md:3, README:2]"
    assert cited(text, LINES) == (["docs/guide.md:1-2", "README:2-2"], 1)


def test_an_answer_full_of_citations_has_a_bounded_number_of_sources() -> None:
    text = " ".join(f"[long:{number}]" for number in range(1, 2000))
    sources, dropped = cited(text, {"long": 5000})
    assert len(sources) == MOST
    assert dropped == 0


@pytest.mark.parametrize("piece", ["[", "(", "[a:1-", "[a.md:1,", "a:b:c:", "[a:a:a:a:", "]["])
def test_an_ugly_answer_takes_time_in_proportion_to_its_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        begun = time.process_time()
        cited(text, LINES)
        return time.process_time() - begun

    short = min(seconds(100_000) for _ in range(3))
    assert min(seconds(400_000) for _ in range(3)) < 20 * short + 0.05
