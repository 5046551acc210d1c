"""Which worker works on which question, and since when, as the workers' heartbeats say.

A worker shows a question from its begin to its end. What the bridge says is leased, and is not
here, has been sent to no worker yet, waits inside one, or is with another home.
"""

import time

import msgspec

from autopoll.clock import wall_ms
from autopoll.home.home import Home
from autopoll.process import heartbeat


class UnderWay(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a worker of this home has begun, `since` wall-clock milliseconds."""

    question: int
    worker: str
    pid: int
    since: int


def under_way(home: Home) -> dict[int, UnderWay]:
    """Return what the living workers of a home are working on, by the number of the question."""
    now, wall = time.monotonic(), wall_ms()
    return {
        question: UnderWay(
            question=question,
            worker=beat.name,
            pid=beat.pid,
            since=wall - round((now - begun) * 1000),
        )
        for beat in heartbeat.read_all(home.beats)
        if beat.questions and heartbeat.is_alive(beat)
        for question, begun in beat.questions
    }
