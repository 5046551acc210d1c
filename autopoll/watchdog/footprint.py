"""What a process holds together with everything it has started, and which of it has ended.

A reading goes through /proc once, for every process that is watched at the same time. Of the
processes of others, the most on a machine, only the numbers are read. What outlived its parent no
longer hangs on the tree: it was adopted by supervisord, which is a subreaper, or by init, and is
known by the marks it inherited.
"""

import os
import resource
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from autopoll.process import orphans
from autopoll.process.orphans import Marked
from autopoll.process.proc_stat import ProcStat, all_pids, all_stats

INIT = 1
_ALL_EVERY_S = 60.0  # a number that another process has been given since is noticed by then
_INSTANCE = b"AUTOPOLL_INSTANCE="


class Zombie(msgspec.Struct, frozen=True):
    """A process that has ended and was not waited for."""

    pid: int
    started: int
    parent: int
    name: str


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """A reading of a process and its descendants, with the strays that bear its mark."""

    at: float  # CLOCK_MONOTONIC
    rss_bytes: int  # of all that live; shared pages count in each
    descendants: tuple[Marked, ...] = ()  # all that live, less the process itself
    zombies: frozenset[Zombie] = frozenset()
    # Descriptors of that process among them which is nearest to its limit.
    fds: int = 0
    fd_limit: int = 1
    fd_holder: int = 0


class FootprintReader:
    """Reads the footprints of the processes of one home.

    Remembers whose strays are whose, and which processes have nothing to do with the home.
    """

    def __init__(self, supervised: str, adopters: Iterable[int]) -> None:
        """Take the home's mark, AUTOPOLL_SUPERVISED, and the pids that adopt its strays."""
        self._supervised = f"AUTOPOLL_SUPERVISED={supervised}".encode()
        self._adopters = frozenset(adopters)
        self._owners: dict[tuple[int, int], str | None] = {}
        self._foreign: set[int] = set()
        self._next_full = 0.0

    def read(self, names: Mapping[int, str], now: float) -> dict[int, Footprint]:
        """Return the footprint of each of these processes (pid -> name) that there is."""
        if now >= self._next_full:
            self._foreign.clear()
            self._next_full = now + _ALL_EVERY_S
        pids = all_pids()
        found = all_stats(pids - self._foreign | names.keys())
        children: dict[int, list[ProcStat]] = defaultdict(list)
        for each in found:
            children[each.parent].append(each)
        strays = self._strays(children, names)
        self._foreign = pids - self._related(found, children, strays, names)
        return {
            each.pid: _footprint(each, _family(each.pid, children, strays[names[each.pid]]), now)
            for each in found
            if each.pid in names
        }

    def _related(
        self,
        found: list[ProcStat],
        children: Mapping[int, list[ProcStat]],
        strays: Mapping[str, list[ProcStat]],
        names: Mapping[int, str],
    ) -> set[int]:
        """Return the pids that may be in a footprint now or later."""
        known = {0, *self._foreign, *(each.pid for each in found)}
        roots = {*names, *(self._adopters - {INIT})}
        roots.update(each.pid for group in strays.values() for each in group)
        # One whose parent has just ended hangs on nothing now, and on its adopter in a moment.
        roots.update(each.pid for each in found if each.parent not in known)
        return roots.union(each.pid for each in _below(roots, children))

    def _strays(
        self, children: Mapping[int, list[ProcStat]], names: Mapping[int, str]
    ) -> defaultdict[str, list[ProcStat]]:
        """Return name -> what it had started and supervisord has adopted."""
        found: defaultdict[str, list[ProcStat]] = defaultdict(list)
        owners = {}
        for adopter in self._adopters:
            for each in children.get(adopter, ()):
                if each.pid in names or each.pid == os.getpid():
                    continue
                key = (each.pid, each.started)
                owner = self._owners[key] if key in self._owners else self._owner(each.pid)
                owners[key] = owner  # read once: the environment is that of the start
                if owner is not None:
                    found[owner].append(each)
        self._owners = owners
        return found

    def _owner(self, pid: int) -> str | None:
        try:
            variables = orphans.environment(pid)
        except OSError:  # gone, or another user's
            return None
        if self._supervised not in variables:
            return None
        marks = [each for each in variables if each.startswith(_INSTANCE)]
        return marks[0].removeprefix(_INSTANCE).decode("utf-8", "replace") if marks else None


def _family(
    pid: int, children: Mapping[int, list[ProcStat]], strays: list[ProcStat]
) -> list[ProcStat]:
    """Return all below a process, with its strays and all below them."""
    return [*strays, *_below([pid, *(each.pid for each in strays)], children)]


def _below(pids: Iterable[int], children: Mapping[int, list[ProcStat]]) -> list[ProcStat]:
    family = []
    to_visit = list(pids)
    while to_visit:
        born = children.get(to_visit.pop(), [])
        family += born
        to_visit += [each.pid for each in born]
    return family


def _footprint(head: ProcStat, family: list[ProcStat], now: float) -> Footprint:
    living = [each for each in family if not each.zombie]
    fullest = max((_descriptors(each.pid) for each in (head, *living)), key=lambda d: d[0] / d[1])
    return Footprint(
        at=now,
        rss_bytes=sum(each.rss_bytes for each in (head, *living)),
        descendants=tuple(Marked(each.pid, each.started, each.name) for each in living),
        zombies=frozenset(
            Zombie(each.pid, each.started, each.parent, each.name) for each in family if each.zombie
        ),
        fds=fullest[0],
        fd_limit=fullest[1],
        fd_holder=fullest[2],
    )


def _descriptors(pid: int) -> tuple[int, int, int]:
    """Return how many descriptors are open, how many may be, and whose they are."""
    try:
        limit, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        folder = f"/proc/{pid}/fd"
        # The size of this folder is the count; before Linux 6.2 it is 0.
        count = os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208
    except OSError:  # gone meanwhile, or another user's
        return 0, 1, pid
    return count, limit if limit > 0 else 2**63, pid
