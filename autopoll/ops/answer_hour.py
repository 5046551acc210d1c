"""The answers of the last hour in equal parts: how many, and how long they took."""

import msgspec

from autopoll.bridge.protocols import Bridge
from autopoll.clock import wall_ms

PARTS = 12
_HOUR_MS = 3_600_000
_MOST = 10_000  # answers that are looked at; of a faster home the hour is shown from there on


class AnswerPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the hour; `p50_ms` is None where nothing was answered."""

    answers: int
    p50_ms: int | None


def answer_hour(bridge: Bridge) -> list[AnswerPart]:
    """Return the parts of the last hour, oldest first, without canaries; raise BridgeError."""
    now = wall_ms()
    times: list[list[int]] = [[] for _ in range(PARTS)]
    for each in bridge.overview.recent_answers(_MOST):
        age = max(0, now - each.settled_at)
        if age < _HOUR_MS:
            times[PARTS - 1 - age * PARTS // _HOUR_MS].append(each.latency_ms)
    return [
        AnswerPart(answers=len(part), p50_ms=sorted(part)[len(part) // 2] if part else None)
        for part in times
    ]
