"""Which processes a reading looks at, on a machine that is only a table."""

from collections.abc import Iterable

import pytest

from autopoll.process import orphans
from autopoll.process.proc_stat import ProcStat
from autopoll.watchdog import footprint
from autopoll.watchdog.footprint import INIT, FootprintReader

# No machine has these: what is asked of the kernel about them, it does not know.
SUPERVISORD, WORKER, CHILD, GRANDCHILD, SHELL, EDITOR = range(2**22 + 1, 2**22 + 7)
HOME = "/home/conf"


class Machine:
    """Its processes, pid -> parent, and the pids that were read last."""

    def __init__(self, parents: dict[int, int]) -> None:
        self.parents = {INIT: 0, **parents}
        self.hidden: set[int] = set()  # listed, and gone when they are read
        self.read: set[int] = set()

    def all_pids(self) -> set[int]:
        return set(self.parents)

    def all_stats(self, pids: Iterable[int]) -> list[ProcStat]:
        self.read = set(pids)
        return [stat(pid, self.parents[pid]) for pid in sorted(self.read - self.hidden)]


def stat(pid: int, parent: int) -> ProcStat:
    return ProcStat(
        pid=pid,
        name="python",
        state="S",
        parent=parent,
        group=pid,
        threads=1,
        cpu_s=0.0,
        started=pid,
        rss_bytes=1,
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine({SUPERVISORD: INIT, WORKER: SUPERVISORD, SHELL: INIT, EDITOR: SHELL})
    monkeypatch.setattr(footprint, "all_pids", machine.all_pids)
    monkeypatch.setattr(footprint, "all_stats", machine.all_stats)
    marks = {f"AUTOPOLL_SUPERVISED={HOME}".encode(), b"AUTOPOLL_INSTANCE=worker"}
    homes = {CHILD, GRANDCHILD, WORKER}
    monkeypatch.setattr(orphans, "environment", lambda pid: marks if pid in homes else set())
    return machine


@pytest.fixture
def reader() -> FootprintReader:
    return FootprintReader(HOME, [INIT, SUPERVISORD])


def descendants(
    reader: FootprintReader, at: float, pid: int = WORKER, name: str = "worker"
) -> list[int]:
    return sorted(each.pid for each in reader.read({pid: name}, at)[pid].descendants)


def test_what_has_nothing_to_do_with_the_home_is_read_once_a_minute(machine, reader) -> None:
    assert descendants(reader, 100.0) == []
    assert machine.read == {INIT, SUPERVISORD, WORKER, SHELL, EDITOR}
    for moment in (105.0, 159.0):
        assert descendants(reader, moment) == []
        assert machine.read == {SUPERVISORD, WORKER}
    machine.parents[EDITOR] = WORKER  # the number of the old one, which has ended
    assert descendants(reader, 160.0) == [EDITOR]


def test_what_is_new_is_read_at_once(machine, reader) -> None:
    assert descendants(reader, 100.0) == []
    machine.parents |= {CHILD: WORKER, GRANDCHILD: CHILD}
    assert descendants(reader, 105.0) == [CHILD, GRANDCHILD]
    machine.parents[GRANDCHILD] = machine.parents[CHILD] = INIT
    for moment in (110.0, 115.0):  # strays of the worker, adopted by init
        assert descendants(reader, moment) == [CHILD, GRANDCHILD]


def test_a_process_outside_the_tree_is_read_from_when_it_is_watched(machine, reader) -> None:
    assert descendants(reader, 100.0) == []
    machine.parents[CHILD] = EDITOR
    assert descendants(reader, 105.0, EDITOR, "by-hand") == [CHILD]


def test_what_is_between_its_dead_parent_and_its_adopter_is_not_lost(machine, reader) -> None:
    machine.parents |= {CHILD: WORKER, GRANDCHILD: CHILD}
    machine.hidden = {CHILD}
    assert descendants(reader, 100.0) == []
    del machine.parents[CHILD]
    machine.parents[GRANDCHILD] = SUPERVISORD
    assert descendants(reader, 105.0) == [GRANDCHILD]
