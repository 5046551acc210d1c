"""The bell: rung by anybody of ours, heard by one, and never a trap for either."""

import os
import select
import stat
import subprocess
import sys

import pytest

from fifo.bell import Bell, ring
from fifo.exceptions import FolderError, UnsafePipe


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bell.fifo"


@pytest.fixture
def bell(path):
    bell = Bell(path)
    yield bell
    bell.close()


def rings(bell):
    return bool(select.select([bell], [], [], 0)[0])


def test_a_ring_from_another_process_is_heard_with_its_kind(bell):
    code = "import sys, pathlib, fifo.bell; print(fifo.bell.ring(pathlib.Path(sys.argv[1]), b'p'))"
    command = [sys.executable, "-c", code, str(bell.path)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert out.stdout == "True\n"
    assert rings(bell)
    assert ring(bell.path, b"a")
    assert bell.read() == b"pa"
    assert bell.read() == b""


def test_a_bell_is_silent_after_its_ringer_has_left(bell):
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    for _ in range(3):
        ring(bell.path)
        assert bell.read() == b"!"
        assert poll.poll(0) == []  # no hang-up to spin on


def test_nobody_hears_where_no_bell_is_and_where_its_owner_was_killed(path, tmp_path):
    assert not ring(path)
    assert not ring(tmp_path / "no" / "folder" / "bell")
    (tmp_path / "file").touch()
    assert not ring(tmp_path / "file" / "bell")
    os.mkfifo(path, 0o600)
    assert not ring(path)


def test_a_full_bell_does_not_block_and_counts_as_rung(bell):
    while not full(bell.path):
        assert ring(bell.path, b"!" * 4096)
    assert ring(bell.path)
    assert set(bell.read()) == {ord("!")}


def test_a_left_over_bell_is_replaced_and_closing_leaves_a_successor_alone(path):
    os.mkfifo(path, 0o644)
    first = Bell(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = Bell(path)
    first.close()
    assert ring(path)
    assert second.read() == b"!"
    second.close()
    second.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (lambda path: path.write_text("precious"), "is a file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to(path.with_name("target")), "is a symlink"),
    ],
)
def test_what_is_not_a_bell_is_neither_rung_nor_replaced(path, put, said):
    os.mkfifo(path.with_name("target"), 0o600)
    put(path)
    for use in (ring, Bell):
        with pytest.raises(UnsafePipe, match=said) as caught:
            use(path)
        assert str(path) in caught.value.what
        assert str(path) in caught.value.mend
    assert path.is_dir() or path.is_symlink() or path.read_text() == "precious"


def test_a_bell_that_others_may_ring_is_not_rung(bell):
    bell.path.chmod(0o622)
    with pytest.raises(UnsafePipe, match="mode 0622"):
        ring(bell.path)


def test_a_bell_of_another_user_is_not_rung(bell, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UnsafePipe, match="belongs to user"):
        ring(bell.path)


def test_a_bell_in_a_folder_that_is_not_there_names_it(tmp_path):
    with pytest.raises(FolderError, match="nowhere"):
        Bell(tmp_path / "nowhere" / "bell")


def test_ringing_leaves_no_descriptor(bell):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        ring(bell.path)
        ring(bell.path.with_name("missing"))
    assert len(os.listdir("/proc/self/fd")) == before


def full(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [descriptor], [], 0)[1]
    finally:
        os.close(descriptor)
