"""How soon the poller notices a program that knows only the legacy tables and rings no bell.

Such a program opens the file with an SQLite of its own, inserts a message and commits. From then
until another connection can see the poller's claim is what is measured; in turn with it, the same
with the bell rung, which is what noticing costs at best.
"""

import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from autopoll.bridge.connect import connect
from autopoll.clock import utc_iso
from autopoll.ops.selftest.scratch_home import Scratch
from autopoll.process.nudge import nudge
from bench.cost.figures import Figure, Say, interleave

SECTION = "idle"
ROUNDS = 9
QUESTIONS = 4  # a lap
NOTICED_MS = 3.0
PAUSE_S = 0.7  # longer than the poller's looks go on after a write
STEP_S = 0.00005
PATIENCE_S = 30.0


def measure(scratch: Scratch, scale: float, say: Say) -> list[Figure]:
    """Return how soon a question is claimed, with and without a bell, in a home that is up."""
    path = scratch.home.var / "bridge.db"
    with closing(Foreigner(path)) as foreigner:
        with closing(connect(scratch.home, scratch.config)) as bridge:
            bridge.conversations.serve(foreigner.conversation, "b", "main")
        rung, silent = "question noticed, bell rung", "question noticed, foreign writer"
        questions = max(1, round(QUESTIONS * min(scale, 1)))
        found = interleave(
            {
                rung: partial(foreigner.samples, questions, lambda: nudge(scratch.home)),
                silent: partial(foreigner.samples, questions, lambda: None),
            },
            max(1, round(ROUNDS * min(scale, 1))),
            say,
        )
    return [
        Figure(
            section=SECTION,
            name=name,
            value=found[name].p50 * 1000,
            p99=found[name].p99 * 1000,
            unit="ms",
            target=NOTICED_MS if name == silent else None,
            note="from COMMIT until its claim can be seen; each after a pause",
        )
        for name in (rung, silent)
    ]


class Foreigner:
    """A program of another time: the standard library's sqlite3, and a conversation of its own."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
        self.conversation = f"conv_{secrets.token_hex(8)}"
        self._db.execute(
            "INSERT INTO conversations VALUES (?, 'coordinator', 'memory', ?, ?, ?, ?)",
            (self.conversation, "a" * 64, "b" * 64, utc_iso(), utc_iso(86400)),
        )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def samples(self, count: int, call: Callable[[], object]) -> list[float]:
        """Return the seconds until each of so many questions is claimed."""
        return [self._ask(call) for _ in range(count)]

    def _ask(self, call: Callable[[], object]) -> float:
        """Ask once all is quiet, `call` whom it concerns, and see the claim and then the answer."""
        time.sleep(PAUSE_S)
        seen = self._others()
        number = self._db.execute(
            "INSERT INTO messages (conversation_id, from_session, to_session, message, timestamp)"
            " VALUES (?, 'a', 'b', 'what is this?', ?)",
            (self.conversation, utc_iso()),
        ).lastrowid
        start = time.perf_counter()
        call()
        self._until(lambda: self._others() != seen and self._is_claimed(number), start)
        noticed = time.perf_counter() - start
        self._until(self._take, start)
        return noticed

    def _others(self) -> int:
        """Return a number that changes when another connection has committed, and only then."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _is_claimed(self, number: int | None) -> bool:
        rows = self._db.execute("SELECT 1 FROM messages WHERE id=? AND read=1", (number,))
        return rows.fetchone() is not None

    def _take(self) -> bool:
        """Take an answer as a legacy reader does; tell whether there was one."""
        taken = self._db.execute(
            "UPDATE messages SET read=1 WHERE conversation_id=? AND to_session='a' AND read=0",
            (self.conversation,),
        )
        return taken.rowcount > 0

    def _until(self, condition: Callable[[], bool], start: float) -> None:
        while not condition():
            if time.perf_counter() - start > PATIENCE_S:
                raise TimeoutError(f"a foreign question was not answered in {PATIENCE_S:.0f} s")
            time.sleep(STEP_S)
