"""How odd context files are named and listed."""

import os
from pathlib import Path

import pytest

from autopoll.backends.context.remarks import (
    MOST,
    NOTHING,
    Remark,
    Remarks,
    keep,
    kept,
    original,
    printable,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("docs/a b.md", "docs/a b.md"),
        ("docs/灯台\u3000🔦.md", "docs/灯台\u3000🔦.md"),
        (os.fsdecode(b"docs/caf\xe9.md"), r"docs/caf\xe9.md"),
        ("a\nb\x1b[31m\x07.md", r"a\x0ab\x1b[31m\x07.md"),
        ("a\u202eb\ufeff.md", r"a\xe2\x80\xaeb\xef\xbb\xbf.md"),
    ],
)
def test_a_name_is_shown_as_valid_text_on_one_line_and_found_by_it(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert original(shown) == name


def test_the_gravest_come_first_and_the_rest_is_counted() -> None:
    some = [Remark(file=f"{n:02}", reason="is binary") for n in range(MOST + 5)]
    remarks = Remarks.of([*some, Remark(file="z", reason="cannot be read", failed=True)])
    assert (remarks.total, remarks.failed, len(remarks.files)) == (MOST + 6, 1, MOST)
    assert remarks.lines(2) == ["z cannot be read", "00 is binary", f"and {MOST + 4} more"]
    assert NOTHING.lines(3) == []


def test_remarks_are_kept_in_a_private_file_and_none_are_no_file(tmp_path: Path) -> None:
    path = tmp_path / "remarks" / "worker"
    keep(path, Remarks.of([Remark(file="a", reason="is odd")]))
    assert kept(path).files[0].file == "a"
    assert path.stat().st_mode & 0o777 == 0o600
    keep(path, NOTHING)
    assert not path.exists()
    assert kept(path) == NOTHING
    path.write_bytes(b"\xff oops")
    assert kept(path) == NOTHING
