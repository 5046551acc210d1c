"""Small files, read whole."""

import os
from pathlib import Path

import pytest

from autopoll.home import files


def test_reading_a_small_file_asks_for_no_more_memory_than_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = os.read

    def noted(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return read(descriptor, size)

    monkeypatch.setattr(files.os, "read", noted)
    (tmp_path / "small").write_bytes(b"content")
    assert files.get(tmp_path / "small") == b"content"
    assert asked == [7]
    (tmp_path / "empty").touch()
    assert files.get(tmp_path / "empty") == b""


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link", "none", "."):
        assert files.get(tmp_path / name) is None
