"""Disks on which a database works, and yet others may spoil it."""

from pathlib import Path

import pytest

from autopoll.bridge.sqlite import filesystem

LINE = "36 25 0:32 {root} {point} rw - {kind} source rw\n"


@pytest.mark.parametrize(
    ("kind", "is_doubted"),
    [
        ("ext4", False), ("xfs", False), ("btrfs", False), ("overlay", False), ("tmpfs", False),
        ("virtiofs", True), ("9p", True), ("vboxsf", True), ("fuse.grpcfuse", True),
        ("fuse.mergerfs", True), ("fuseblk", True),
    ],
)  # fmt: skip
def test_a_disk_that_another_side_may_write_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_doubted: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(LINE.format(root="/", point="/", kind="ext4")
                      + LINE.format(root="/", point="/data", kind=kind))  # fmt: skip
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    found = filesystem.doubts(Path("/data/var/bridge.db"))
    assert [kind in each.detail for each in found] == [True] * is_doubted
    assert filesystem.doubts(Path("/home/var/bridge.db")) == []


def test_a_file_that_is_mounted_by_itself_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(LINE.format(root="/x/bridge.db", point="/data/bridge.db", kind="ext4"))
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    [found] = filesystem.doubts(Path("/data/bridge.db"))
    assert "by itself" in found.detail and "folder" in found.mend
    assert filesystem.doubts(Path("/data/other.db")) == []


def test_without_a_list_of_mounts_nothing_is_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "none")
    assert filesystem.doubts(tmp_path) == []
