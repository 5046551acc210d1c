"""What makes a file another one."""

from types import SimpleNamespace
from typing import Any

import pytest

from autopoll.home.file_stamp import FileStamp

FACTS: dict[str, Any] = dict.fromkeys(
    ("st_mtime_ns", "st_ctime_ns", "st_size", "st_dev", "st_ino"), 1
)


def stamp(**changed: int) -> FileStamp:
    facts: Any = SimpleNamespace(**{**FACTS, **changed})
    return FileStamp.of(facts)


@pytest.mark.parametrize("fact", FACTS)
def test_a_file_that_differs_in_one_fact_has_another_stamp(fact: str) -> None:
    assert stamp() == stamp()
    assert stamp(**{fact: 2}) != stamp()
