import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from place import until

from autopoll.errors import AutopollError
from autopoll.process import atomic_record, heartbeat
from autopoll.process.atomic_record import LIMIT, Slots
from autopoll.process.heartbeat import ProcessState, is_alive
from autopoll.process.heartbeat_writer import Heart


def test_a_beat_shows_what_the_process_says_of_itself(tmp_path: Path) -> None:
    with Heart.open(tmp_path, "worker", "worker") as heart:
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and beat.state is ProcessState.STARTING and beat.ready_at is None
        assert (beat.pid, beat.starts, beat.crashed) == (os.getpid(), 1, 0)
        assert is_alive(beat)
        heart.epoch, heart.state, heart.note = 9, ProcessState.IDLE, "well"
        before = time.monotonic()
        heart.beat()
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and (beat.epoch, beat.state, beat.note) == (9, ProcessState.IDLE, "well")
        assert beat.ready_at and beat.ready_at <= before <= beat.loop_beat <= time.monotonic()
        assert beat.thread_beat >= beat.loop_beat  # a loop that goes round is a thread that does
    beat = heartbeat.read(tmp_path / "worker")
    assert beat and beat.state is ProcessState.STOPPED
    assert (tmp_path / "worker").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.RETIRED])
def test_an_end_that_was_meant_is_no_crash(tmp_path: Path, state: ProcessState) -> None:
    Heart.open(tmp_path, "worker", "worker").close(state)
    with Heart.open(tmp_path, "worker", "worker"):
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and (beat.starts, beat.crashed) == (2, 0)


def test_progress_is_dated_from_the_begin_of_the_work_and_every_step_of_it(tmp_path: Path) -> None:
    def shown() -> float:
        beat = heartbeat.read(tmp_path / "worker")
        assert beat
        return beat.progressed_at

    with Heart.open(tmp_path, "worker", "worker") as heart:
        before = time.monotonic()
        heart.begin(1, before + 60)
        begun = shown()
        assert before <= begun <= time.monotonic()
        heart.beat()
        assert shown() == begun
        heart.progressed()
        assert begun < shown() <= time.monotonic()


def test_of_several_requests_the_one_due_first_is_shown(tmp_path: Path) -> None:
    with Heart.open(tmp_path, "worker", "worker") as heart:
        heart.state = ProcessState.IDLE

        def shown() -> tuple[ProcessState, int | None, float | None]:
            beat = heartbeat.read(tmp_path / "worker")
            assert beat
            return beat.state, beat.request_id, beat.request_deadline

        heart.begin(1, 500.0)
        heart.begin(2, 400.0)
        heart.begin(3, 600.0)
        assert shown() == (ProcessState.BUSY, 2, 400.0)
        heart.end(2, ok=True)
        assert shown() == (ProcessState.BUSY, 1, 500.0)
        heart.state = ProcessState.DRAINING
        assert shown() == (ProcessState.DRAINING, 1, 500.0)
        heart.end(1, ok=False)
        heart.state = ProcessState.IDLE
        assert shown() == (ProcessState.BUSY, 3, 600.0)
        heart.end(3, ok=True)
        heart.progressed()
        assert shown() == (ProcessState.IDLE, None, None)
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and (beat.done, beat.failed, beat.progress) == (2, 1, 1)


def test_the_thread_beats_while_the_main_loop_does_not(tmp_path: Path) -> None:
    with Heart.open(tmp_path, "worker", "worker"):
        first = heartbeat.read(tmp_path / "worker")
        assert first
        later = until(
            lambda: (
                (b := heartbeat.read(tmp_path / "worker"))
                and b.thread_beat > first.thread_beat
                and b
            )
        )
        assert later.loop_beat == first.loop_beat


def test_restarts_are_counted_and_an_end_that_was_not_meant_is_shown_by_the_next(
    tmp_path: Path,
) -> None:
    Heart.open(tmp_path, "worker", "worker").close()
    beat = heartbeat.read(tmp_path / "worker")
    with pytest.raises(KeyError), Heart.open(tmp_path, "worker", "worker"):
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and (beat.starts, beat.crashed) == (2, 0)
        raise KeyError
    with Heart.open(tmp_path, "worker", "worker"):
        beat = heartbeat.read(tmp_path / "worker")
        assert beat and (beat.starts, beat.crashed) == (3, os.getpid())


@pytest.mark.long
def test_a_deleted_or_replaced_file_is_made_again(tmp_path: Path) -> None:
    with Heart.open(tmp_path, "worker", "worker"):
        (tmp_path / "worker").unlink()
        until(lambda: heartbeat.read(tmp_path / "worker"))
        (tmp_path / "other").write_bytes(b"garbage")
        (tmp_path / "other").rename(tmp_path / "worker")
        until(lambda: heartbeat.read(tmp_path / "worker"))


def test_a_note_of_any_text_fits(tmp_path: Path) -> None:
    with Heart.open(tmp_path, "n" * 64, "worker") as heart:
        for note in ("é" * 500, "\N{GRINNING FACE}" * 500, "\udcff\0", "x" * 10_000):
            heart.note = note
            beat = heartbeat.read(tmp_path / ("n" * 64))
            assert beat and beat.note == note.encode("utf-8", "replace")[:200].decode(
                "utf-8", "ignore"
            )


def test_what_is_no_heartbeat_is_skipped(tmp_path: Path) -> None:
    Heart.open(tmp_path, "worker", "worker").close()
    (tmp_path / "empty").touch()
    (tmp_path / "garbage").write_bytes(os.urandom(4096))
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("worker")
    os.mkfifo(tmp_path / "fifo")
    Slots(tmp_path / "foreign").write(b"not a beat")
    assert [beat.name for beat in heartbeat.read_all(tmp_path)] == ["worker"]
    assert heartbeat.read_all(tmp_path / "nowhere") == []


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "hardlink"])
def test_a_heart_does_not_write_into_what_is_no_file_of_ours(tmp_path: Path, kind: str) -> None:
    target, place = tmp_path / "target", tmp_path / "worker"
    target.write_bytes(b"precious")
    match kind:
        case "link":
            place.symlink_to(target)
        case "folder":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "hardlink":
            os.link(target, place)
    with pytest.raises(AutopollError):
        Heart.open(tmp_path, "worker", "worker")
    assert target.read_bytes() == b"precious"


@settings(deadline=None)
@given(
    old=st.binary(max_size=LIMIT),
    new=st.binary(max_size=LIMIT),
    damage=st.lists(st.tuples(st.integers(0, 1023), st.integers(1, 255)), min_size=1, max_size=8),
)
def test_whatever_happens_to_the_newest_slot_the_one_before_it_is_read(
    old: bytes, new: bytes, damage: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record"
        record = Slots(path)
        record.write(old)
        before = path.read_bytes()
        record.write(new)
        data = bytearray(path.read_bytes())
        start = 0 if before[:1024] != bytes(data[:1024]) else 1024
        for offset, flip in damage:
            data[start + offset] ^= flip
        path.write_bytes(data)
        assert atomic_record.read(path) in (old, new)


@settings(deadline=None)
@given(data=st.binary(max_size=3000))
def test_reading_any_bytes_never_raises(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record"
        path.write_bytes(data)
        assert heartbeat.read(path) is None


def test_a_reader_never_sees_half_a_record_however_fast_it_is_written(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, itertools, pathlib\n"
            "from autopoll.process.atomic_record import Slots\n"
            "record = Slots(pathlib.Path(sys.argv[1]))\n"
            "for n in itertools.count(): record.write(bytes([n % 251]) * (n % 900 + 1))\n",
            str(tmp_path / "record"),
        ]
    )
    try:
        until(lambda: atomic_record.read(tmp_path / "record"))
        seen, end = set(), time.monotonic() + 60
        while len(seen) <= 100 and time.monotonic() < end:
            record = atomic_record.read(tmp_path / "record")
            assert record and len(set(record)) == 1
            seen.add(record)
        assert len(seen) > 100
        for _ in range(50):  # stopped or killed anywhere, the last record stays readable
            writer.send_signal(signal.SIGSTOP)
            assert atomic_record.read(tmp_path / "record")
            writer.send_signal(signal.SIGCONT)
    finally:
        writer.kill()
        writer.wait()
    assert atomic_record.read(tmp_path / "record")
