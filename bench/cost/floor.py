"""The floor: the smallest chain that promises what ours does, written by hand.

Three processes, as in a home, with blocking calls and nothing else: an asker inserts and commits,
and rings; a poller claims and commits, and writes the question into a pipe; a worker echoes it into
another; the poller writes the answer, marks the question done, commits, and rings the asker. The
commits are as durable as ours: what is asked and answered survives a power cut (FULL), a claim need
not (NORMAL). There is no authentication, no lease, no order, no retry, and no mercy.

    python -m bench.cost.floor poller|worker FOLDER
"""

import os
import select
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

_HEAD = struct.Struct("=IQ")  # length of the text, number of the question
_ROOM = 1 << 16
_UNDER_WAY = 128  # at most, so that neither pipe fills up and both ends wait for each other
_ASKER = 0  # stdin of the chain's processes: a pipe from the asker
_PIPES = ("bell", "answered", "requests", "replies")
_SCHEMA = """
CREATE TABLE questions (id INTEGER PRIMARY KEY, text TEXT NOT NULL, state INTEGER NOT NULL);
CREATE INDEX waiting ON questions (id) WHERE state=0;
CREATE TABLE answers (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""


class Floor:
    """The asker of a chain that runs; one at a time."""

    def __init__(self, folder: Path, chain: Sequence[subprocess.Popen[bytes]]) -> None:
        self._chain = chain
        self._db = _open(folder)
        self._bell = _end(folder, "bell")
        self._answered = _end(folder, "answered")

    def ask(self, texts: Sequence[str], *, together: bool = False) -> list[str]:
        """Ask, in a commit each or all `together`, and return the answers when all are there."""
        if together:
            self._db.execute("BEGIN IMMEDIATE")
        ids = []
        for text in texts:
            self._db.execute("INSERT INTO questions (text, state) VALUES (?, 0)", (text,))
            ids.append(self._db.last_insert_rowid())
            if not together:
                os.write(self._bell, b"!")
        if together:
            self._db.execute("COMMIT")
            os.write(self._bell, b"!")
        answers: list[str] = []
        for number in ids:
            while not (found := self._answer(number)):
                self._wait()
            answers.append(found)
        return answers

    def _wait(self) -> None:
        """Wait until rung; raise RuntimeError when there is nobody to ring."""
        poll = select.poll()
        poll.register(self._answered, select.POLLIN)
        while not poll.poll(1000):
            if any(process.poll() is not None for process in self._chain):
                raise RuntimeError("a process of the floor has ended")
        os.read(self._answered, _ROOM)

    def _answer(self, number: int) -> str | None:
        row = self._db.execute("SELECT text FROM answers WHERE id=?", (number,)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Let go of the chain."""
        os.close(self._bell)
        os.close(self._answered)
        self._db.close()


@contextmanager
def floor(folder: Path) -> Iterator[Floor]:
    """Run the chain in the folder."""
    with closing(_open(folder)) as db:
        db.execute(_SCHEMA)
    for name in _PIPES:
        os.mkfifo(folder / name)
    with ExitStack() as stack:
        chain = [_start(stack, role, folder) for role in ("poller", "worker")]
        yield stack.enter_context(closing(Floor(folder, chain)))


def _start(stack: ExitStack, role: str, folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, role, str(folder)],
        stdin=subprocess.PIPE,  # whose end is our death
        start_new_session=True,  # Ctrl-C is for us alone
    )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def poller(folder: Path) -> None:
    """Claim, hand out and settle until the asker is gone."""
    db = _open(folder)
    bell, answered, requests, replies = (_end(folder, name) for name in _PIPES)
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    poll.register(replies, select.POLLIN)
    poll.register(_ASKER, 0)  # a hang-up is told unasked
    read = _reader(replies)
    under_way = 0
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if _ASKER in ready:
            return
        if replies in ready:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for number, text in (settled := read()):
                db.execute("INSERT INTO answers (id, text) VALUES (?, ?)", (number, text.decode()))
                db.execute("UPDATE questions SET state=2 WHERE id=?", (number,))
            db.execute("COMMIT")
            under_way -= len(settled)
            os.write(answered, b"!")
        if bell in ready:
            os.read(bell, _ROOM)
        while claimed := _claim(db, _UNDER_WAY - under_way):
            under_way += len(claimed)
            os.write(requests, b"".join(_frame(number, text) for number, text in claimed))


def _claim(db: apsw.Connection, most: int) -> list[tuple[int, str]]:
    waiting: list[Any] = db.execute(
        "SELECT id, text FROM questions WHERE state=0 ORDER BY id LIMIT ?", (most,)
    ).fetchall()
    if waiting:
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("BEGIN IMMEDIATE")
        db.executemany("UPDATE questions SET state=1 WHERE id=?", [row[:1] for row in waiting])
        db.execute("COMMIT")
    return waiting


def worker(folder: Path) -> None:
    """Give back every question as its answer until the asker is gone."""
    requests, replies = _end(folder, "requests"), _end(folder, "replies")
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    poll.register(_ASKER, 0)
    read = _reader(requests)
    while _ASKER not in {descriptor for descriptor, _ in poll.poll()}:
        os.write(replies, b"".join(_frame(number, text.decode()) for number, text in read()))


def _open(folder: Path) -> apsw.Connection:
    db = apsw.Connection(str(folder / "floor.db"))
    db.set_busy_timeout(10_000)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    return db


def _end(folder: Path, name: str) -> int:
    return os.open(folder / name, os.O_RDWR | os.O_CLOEXEC)  # both ends, so that none hangs up


def _frame(number: int, text: str) -> bytes:
    payload = text.encode()
    return _HEAD.pack(len(payload), number) + payload


def _reader(descriptor: int) -> Callable[[], list[tuple[int, bytes]]]:
    """Return what reads once, and returns the frames that are complete."""
    rest = b""

    def read() -> list[tuple[int, bytes]]:
        nonlocal rest
        data, at, frames = rest + os.read(descriptor, _ROOM), 0, []
        while len(data) - at >= _HEAD.size:
            length, number = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + length
            if end > len(data):
                break
            frames.append((number, data[at + _HEAD.size : end]))
            at = end
        rest = data[at:]
        return frames

    return read


if __name__ == "__main__":
    {"poller": poller, "worker": worker}[sys.argv[1]](Path(sys.argv[2]))
