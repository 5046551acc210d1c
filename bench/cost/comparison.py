"""Whether a run is worse than an earlier one: by its ratios to the floor, never by its times.

A ratio is to a floor that was measured in turn with it, so it hardly moves with what else the
machine does. Times, and the 99th percentiles, move with everything.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from autopoll.errors import AutopollError, Exit
from bench.cost.figures import Figure
from bench.cost.machine import Machine
from bench.cost.report import Report

ALLOWED = 0.25  # of the ratio
HEADINGS = ("section", "figure", "was", "is", "loss", "")


class OtherMachine(AutopollError):
    """The figures are from another machine, so that a comparison would say nothing."""

    exit_code = Exit.DOWN  # what is to be compared with was not found


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one figure: its ratio then and now, None where it is missing.

    `loss` is the share that was lost, 0.3 for 1.3 times the cost or for 0.7 of the rate; negative
    for a gain, and None with a ratio missing.
    """

    section: str
    name: str
    was: float | None
    now: float | None
    loss: float | None

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if self.was is None:
            return "new"
        if self.now is None:
            return "missing"
        assert self.loss is not None
        return "worse" if self.loss > ALLOWED else "as before"

    @property
    def is_good(self) -> bool:
        """Whether it may pass. What is missing may not: nobody knows what it costs now."""
        return self.verdict in ("new", "as before")


def check_machine(before: Machine, now: Machine) -> None:
    """Raise OtherMachine, with a line for each difference, unless both are the same."""
    if differences := before.differences(now):
        raise OtherMachine(
            "the figures to compare with are from another machine: " + "; ".join(differences),
            "Record figures of this one and compare with those: make bench",
        )


def compare(before: Report, now: Report, only: Sequence[str] | None = None) -> list[Change]:
    """Return what became of each ratio, in the order of the new run; what is missing comes last.

    With `only`, the new run was not meant to be whole: of the earlier one, those sections count
    that it has figures of. Raises OtherMachine.
    """
    check_machine(before.machine, now.machine)
    then, new = _ratios(before.figures), _ratios(now.figures)
    measured = {figure.section for figure in now.figures}
    changes = [_change(then.get(key), figure) for key, figure in new.items()]
    changes += [
        _change(figure, None)
        for (section, _), figure in then.items()
        if (section, figure.name) not in new and (only is None or section in measured)
    ]
    return changes


def row(change: Change) -> tuple[str, ...]:
    """Return a change under HEADINGS."""
    was, now = ("" if each is None else f"{each:.2f}" for each in (change.was, change.now))
    loss = "" if change.loss is None else f"{change.loss:+.0%}"
    return change.section, change.name, was, now, loss, change.verdict


def _ratios(figures: Iterable[Figure]) -> dict[tuple[str, str], Figure]:
    return {(each.section, each.name): each for each in figures if each.ratio is not None}


def _change(before: Figure | None, now: Figure | None) -> Change:
    known = now or before
    assert known is not None
    was, ratio = (None if each is None else each.ratio for each in (before, now))
    lost = None if was is None or ratio is None else loss(was, ratio, known.more_is_better)
    return Change(section=known.section, name=known.name, was=was, now=ratio, loss=lost)


def loss(was: float, now: float, more_is_better: bool) -> float:
    """Return the share that was lost between two ratios; without end from nothing to something."""
    if was == now:
        return 0.0
    grown = now / was - 1 if was else math.inf
    return -grown if more_is_better else grown
