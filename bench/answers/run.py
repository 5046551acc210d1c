"""A run: each contender at each set of questions, one after the other."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec

from bench.answers.contenders import DENSE_MODEL, installed
from bench.answers.corpora import CorpusGroup
from bench.answers.questions import FAQ, QuestionSet, question_sets
from bench.answers.turn import Score, take
from bench.cost.figures import Say
from bench.cost.machine import Machine, this_machine


class AnswersReport(msgspec.Struct, frozen=True):
    """What one run found; `left_out` are contenders that took no part, with the reason."""

    machine: Machine
    started: datetime
    load: float
    versions: list[str]
    scores: list[Score]
    left_out: dict[str, str]


def run(
    contenders: Sequence[str], groups: Sequence[CorpusGroup], cache: Path, say: Say
) -> AnswersReport:
    """Ask each contender all questions; raise NotFetched where there is no documentation."""
    started, load = datetime.now(UTC), os.getloadavg()[0]
    versions, left_out = _installed(contenders)
    scores = []
    for group in groups:
        say(f"reading the documentation of the {group.name} set")
        for asked in question_sets(group, cache):
            scores += [
                _score(name, asked, say)
                for name in versions
                if name != DENSE_MODEL or asked.name == FAQ
            ]
    return AnswersReport(
        machine=this_machine(cache),
        started=started.replace(microsecond=0),
        load=round(load, 2),
        versions=list(versions.values()),
        scores=scores,
        left_out=left_out,
    )


def _installed(contenders: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    versions, left_out = {}, {}
    for name in contenders:
        try:
            versions[name] = installed(name)
        except PackageNotFoundError as error:
            left_out[name] = f"{error.name} is not installed (make bench-answers)"
    return versions, left_out


def _score(name: str, asked: QuestionSet, say: Say) -> Score:
    say(f"{asked.group}, {asked.name}: {name}")
    return take(name, asked)
