"""The figures as tables in Markdown, and what an answer is worth where none may be given."""

from collections.abc import Iterator, Sequence

from bench.answers.questions import FAQ, UNANSWERABLE
from bench.answers.run import AnswersReport
from bench.answers.turn import Score
from bench.peers.table import BUSY

_COLUMNS = ("", "hit@1", "hit@3", "MRR", "answered", "ready after", "a question", "memory")


def tables(report: AnswersReport) -> str:
    """Return a table for each set of questions."""
    sets = dict.fromkeys((each.group, each.questions) for each in report.scores)
    parts = [_table(report.scores, *names) for names in sets]
    left_out = [f"{name} is left out: {reason}" for name, reason in report.left_out.items()]
    return "\n\n".join([*parts, *honesty(report.scores), *left_out, _circumstances(report)])


def honesty(scores: Sequence[Score]) -> Iterator[str]:
    """Yield for each group how far an answer can be trusted, where both sets were asked."""
    found = {(each.group, each.questions, each.contender): each for each in scores}
    for (group, questions, name), faq in found.items():
        none = found.get((group, UNANSWERABLE, name))
        if questions == FAQ and none is not None and none.answered < 1:
            answered = faq.answered * faq.count + none.answered * none.count
            precision = faq.hit1 * faq.count / answered if answered else 0.0
            yield (
                f"{name}, {group}: {faq.answered:.0%} of the questions of the FAQ get an answer "
                f"(coverage), {none.answered:.0%} of the {none.count} unanswerable ones; of all "
                f"that is answered, the first passage of {precision:.0%} is right (precision)."
            )


def _table(scores: Sequence[Score], group: str, questions: str) -> str:
    own = [each for each in scores if (each.group, each.questions) == (group, questions)]
    rows = [_COLUMNS, ("---", *["---:"] * (len(_COLUMNS) - 1)), *map(_row, own)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{group}: {questions}** ({own[0].count} questions)", "", *lines])


def _row(score: Score) -> tuple[str, ...]:
    shares = ("", "", "")
    if score.questions != UNANSWERABLE:
        shares = (f"{score.hit1:.3f}", f"{score.hit3:.3f}", f"{score.mrr:.3f}")
    return (
        score.contender,
        *shares,
        f"{score.answered:.0%}",
        f"{score.build_s:.1f} s",
        f"{score.ask_ms:.1f} ms",
        f"{score.memory_mb:.0f} MB",
    )


def _circumstances(report: AnswersReport) -> str:
    machine = report.machine
    noise = (
        f" **The machine was not quiet**: its load before the run was {report.load:g}, so that the "
        "times say little; what is found is the same on any machine."
    )
    return (
        f"Measured {report.started:%Y-%m-%d %H:%M} UTC on {machine.processor}, {machine.cores} "
        f"cores, {machine.python}; {', '.join(report.versions)}."
        f"{noise if report.load > BUSY else ''}"
    )
