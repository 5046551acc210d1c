"""A contender's turn at one set of questions, in a process of its own."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec

from bench.answers.contenders import CONTENDERS, Contender
from bench.answers.questions import Question, QuestionSet

_STATUS = Path("/proc/self/status")


class Score(msgspec.Struct, frozen=True):
    """How a contender did at a set.

    Of all questions: the share whose first passage was right (`hit1`), one of the first three
    (`hit3`), the mean of one over the rank of the first right one (`mrr`), and the share that got
    any passage (`answered`). Seconds to read the documents, milliseconds for a question, and
    megabytes that both took at their highest.
    """

    group: str
    questions: str
    contender: str
    count: int
    hit1: float
    hit3: float
    mrr: float
    answered: float
    build_s: float
    ask_ms: float
    memory_mb: float


def take(name: str, asked: QuestionSet) -> Score:
    """Let a contender read the documents and answer the questions of a set."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(_take, name, asked).result()


def _take(name: str, asked: QuestionSet) -> Score:
    before = _peak_mb()
    began = time.perf_counter()
    contender = CONTENDERS[name](asked.documents)
    ready = time.perf_counter()
    ranks = [rank(contender, question) for question in asked.questions]
    ended = time.perf_counter()
    count = len(asked.questions)

    def share(of: Callable[[int | None], float]) -> float:
        return round(sum(map(of, ranks)) / count, 3)

    return Score(
        group=asked.group,
        questions=asked.name,
        contender=name,
        count=count,
        hit1=share(lambda at: at == 1),
        hit3=share(lambda at: at is not None and 1 <= at <= 3),
        mrr=share(lambda at: 1 / at if at else 0.0),
        answered=share(lambda at: at is not None),
        build_s=round(ready - began, 2),
        ask_ms=round(1000 * (ended - ready) / count, 2),
        memory_mb=round(_peak_mb() - before, 1),
    )


def rank(contender: Contender, question: Question) -> int | None:
    """Return which passage is the first right one, from 1; 0 when none is, None without any."""
    passages = contender.ask(question.text)
    if not passages:
        return None
    for at, passage in enumerate(passages, 1):
        if any(place.meets(passage) for place in question.places):
            return at
    return 0


def _peak_mb() -> float:
    # Not getrusage, whose peak begins with that of the process that started this one.
    (line,) = (each for each in _STATUS.read_text().splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
