"""When a process of a home is ready, by its heartbeat."""

from collections.abc import Iterable

from autopoll.home.home import Home
from autopoll.process import heartbeat, restart_gate
from autopoll.process.heartbeat import READY, Beat, ProcessState


def missing(home: Home, names: Iterable[str], since: int = 0) -> list[str]:
    """Return which of these processes are not ready, in their order.

    One that started before `since`, in ticks of this boot, is none of those that are meant.
    """
    beats = {each.name: each for each in heartbeat.read_all(home.beats) if each.started >= since}
    return [
        name
        for name in names
        if name not in beats or not is_up(home, beats[name]) or not heartbeat.is_alive(beats[name])
    ]


def is_held(home: Home, beat: Beat) -> bool:
    """Tell whether a worker holds back because it crashed too often."""
    return beat.state is ProcessState.HELD and restart_gate.is_failing(home.gates / beat.name)


def is_up(home: Home, beat: Beat) -> bool:
    """Tell whether a process is ready, or will be without help: a pause is no failure."""
    if beat.state is ProcessState.HELD:
        return not is_held(home, beat)
    return beat.state in READY
