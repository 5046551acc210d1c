"""Tables at every width: columns go before they are crushed, and what is an id stands whole."""

import io
import os
import re
import sys

import pytest
from rich.cells import cell_len

from autopoll.cli import render
from autopoll.cli.render import NOTE, TEXT, Column, print_table, table_lines

COLUMNS = [
    Column("id"),
    Column("conversation", 5),
    Column("way", 1),
    Column("type", 2),
    Column("time", 3),
    Column("read", 4),
    Column("text", kind=TEXT),
]
ASCII = "How do I start the tests of this project, and where do I read what has failed in them?"
WIDE = "質問は何ですか。" * 12
ROWS = [
    ["7", "conv_0123456789abcdef", "a to b", "query", "2026-03-01T10:00:00Z", "yes", ASCII],
    ["12345", "conv_fedcba9876543210", "b to a", "response", "2026-03-01T10:00:01Z", "no", WIDE],
]
STAY = {
    20: ["id", "text"],
    40: ["id", "way", "text"],
    80: ["id", "way", "type", "time", "read", "text"],
    200: [column.heading for column in COLUMNS],
}


@pytest.mark.parametrize("width", STAY)
def test_columns_go_before_they_are_crushed(width: int) -> None:
    heading, *lines = table_lines(COLUMNS, ROWS, width, bold=False)
    assert heading.split() == STAY[width]
    assert len(lines) == len(ROWS), "no line is broken"
    assert max(map(cell_len, [heading, *lines])) <= width
    for line, row in zip(lines, ROWS, strict=True):
        words = line.split("  ")
        assert words[0].strip() == row[0]
        for name, value in zip([c.heading for c in COLUMNS][:-1], row, strict=False):
            assert (value in line) == (name in STAY[width]) or value == row[0]


def test_a_text_takes_the_room_there_is_and_says_that_it_was_cut() -> None:
    _, ascii_line, wide_line = table_lines(COLUMNS, ROWS, 80, bold=False)
    assert ascii_line.endswith("…") and wide_line.endswith("…")
    assert cell_len(ascii_line) == 80
    assert cell_len(wide_line) in (79, 80), "half of a wide character cannot be shown"
    _, whole, _ = table_lines(COLUMNS, ROWS, 300, bold=False)
    assert whole.endswith(ASCII)


@pytest.mark.parametrize("width", [1, 5, 10, 20])
def test_an_id_is_not_cut_where_nothing_has_room(width: int) -> None:
    columns = [Column("conversation"), Column("created", 1)]
    row = ["conv_0123456789abcdef", "2026-03-01T10:00:00Z"]
    _, line = table_lines(columns, [row], width, bold=False)
    assert line == row[0]
    _, line = table_lines([*columns, Column("text", kind=TEXT)], [[*row, ASCII]], width, bold=False)
    assert line.split()[0] == row[0]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("note", [ASCII, WIDE, "x" * 300, "a " * 100, "", " ", "e\u0301" * 90])
def test_a_note_goes_on_below_and_loses_nothing(width: int, note: str) -> None:
    columns = [Column("process"), Column("note", kind=NOTE)]
    heading, *lines = table_lines(columns, [["main-1", note]], width, bold=False)
    assert max(map(cell_len, [heading, *lines])) <= width
    shown = "".join(lines).removeprefix("main-1")
    assert shown.replace(" ", "") == note.replace(" ", "")


def test_notes_share_the_room_with_texts() -> None:
    columns = [Column("a", kind=NOTE), Column("b", kind=TEXT)]
    heading, first, *_ = table_lines(columns, [["long words " * 9, "short"]], 60, bold=False)
    assert first.endswith("short")
    assert heading.index("b") > 40


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.25, "250ms"), (0.999, "999ms"), (1.0, "1s"), (1.5, "2s"), (2.4, "2s"),
     (119, "119s"), (121, "2m"), (7200, "2h"), (172800, "2d")],
)  # fmt: skip
def test_an_age_is_told_in_whole_units_from_a_second_on(seconds: float | None, shown: str) -> None:
    assert render.age(seconds) == shown


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_long_line_goes_on_below_its_beginning(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    out = Terminal(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(width))
    render.say_under("FAIL  ", ASCII)
    first, *more = out.buffer.getvalue().decode().splitlines()
    assert first.startswith("FAIL  How do I") and more
    assert all(re.match(r" {6}\S", line) for line in more)
    assert max(map(len, [first, *more])) <= max(width, 26)
    assert " ".join(line[6:] for line in [first, *more]) == ASCII


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, width: int | None, value: str, encoding: str) -> str:
    out = Terminal(io.BytesIO(), encoding) if width else io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    if width:
        monkeypatch.setenv("COLUMNS", str(width))
    print_table([Column("id"), Column("text", kind=TEXT)], [[1, value]], "nothing")
    return out.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [20, 40, 80, 200, None])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_what_others_wrote_neither_drives_the_terminal_nor_breaks_the_table(
    monkeypatch: pytest.MonkeyPatch, width: int | None, encoding: str
) -> None:
    evil = "a\x1b[2Jb\nc\td\x07\u202ee\r\nf質" + "ü" * 200
    shown = printed(monkeypatch, width, evil, encoding)
    lines = shown.replace("\x1b[1m", "").replace("\x1b[0m", "").split("\n")[:-1]
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines) and "\u202e" not in shown and "\r" not in shown
    assert "\\x1b[2Jb c d" in lines[1] or width == 20
    if width:
        assert max(map(cell_len, lines)) <= width
    else:
        assert cell_len(lines[1]) > 200, "a pipe gets all of it"


def test_only_a_terminal_gets_a_bold_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 80, "x", "utf-8").startswith("\x1b[1mid")
    assert printed(monkeypatch, None, "x", "utf-8") == "id  text\n1   x\n"


def test_a_terminal_without_a_size_is_taken_for_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    assert render._terminal_width() == 80
