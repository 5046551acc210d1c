"""Turns texts and questions into what the full-text index can match; pure."""

import re

MAX_TERMS = 64  # of one question; of a longer one the beginning and the end count

STOP = frozenset(  # "doesn't" arrives as "doesn" and "t"
    """
    a about after again all also am an and any anything are as at be because been before being
    between both but by can cannot could did do does doing done each either else ever every few for
    from further get gets give given go goes had happen happens has have having he her here hers him
    his how i if in into is it its itself just keep know let like made make makes many may me mean
    means might more most much must my need needs no nor not of off on once only or other our out
    over own please same shall she should so some something such take takes tell than that the their
    them then there these they thing things this those through to too under until up us use used
    uses using very want was way we were what whatever when where which while who whom whose why
    will with within without would you your yours
    s t d ll re ve m don didn doesn isn aren wasn won couldn shouldn wouldn
    explain describe show find list
    """.split()  # noqa: SIM905 - a list of 200 strings is no easier to read
)

# Scripts written without spaces: the tokenizer would take a whole clause for one word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
_WORD = re.compile(r"\w+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def indexable(text: str) -> str:
    """Return the text as it is indexed: unspaced scripts in pairs, CamelCase also in parts."""
    text = _UNSPACED.sub(lambda run: f" {_pairs(run[0])} ", text)
    return _WORD.sub(lambda word: _with_parts(word[0]), text)


def terms(question: str) -> list[str]:
    """Return the distinct words of a question that carry meaning, in order.

    Question and stop words are dropped, unless nothing else is left.
    """
    words = _WORD.findall(indexable(question).lower())
    telling = [word for word in words if word not in STOP] or words
    distinct = list(dict.fromkeys(telling))
    if len(distinct) > MAX_TERMS:
        half = MAX_TERMS // 2
        return distinct[:half] + distinct[-half:]
    return distinct


def quoted(term: str) -> str:
    """Return a term as a string of the FTS5 query language, in which nothing has a meaning."""
    return '"' + term.replace('"', '""') + '"'


def _pairs(run: str) -> str:
    return " ".join(run[at : at + 2] for at in range(max(1, len(run) - 1)))


def _with_parts(word: str) -> str:
    parts = _CAMEL.split(word)
    return word if len(parts) == 1 else f"{word} {' '.join(parts)}"
