"""Turns texts and questions into what the full-text index can match; pure."""

import re
import unicodedata

MAX_TERMS = 48  # of one question; of a longer one the beginning and the end count
MAX_CHARS = 4096  # at either end of a question that are looked at
PREFIX_FROM = 4  # letters from which a term also matches longer words: large, larger

STOP = frozenset(  # "doesn't" arrives as "doesn" and "t"
    """
    a about after again all also am an and any anything are as at be because been before being
    between both but by can cannot could did do does doing done during each either else ever every
    few for from further get gets give given go goes had happen happens has have having he her here
    hers him his how i if in into is it its itself just keep know let like made make makes many may
    me mean means might more most much must my need needs no nor not of off on once only or other
    our out over own please same shall she should so some something such take takes tell than that
    the their them then there these they thing things this those through to too under until up us
    use used uses using very want was way we were what whatever when whenever where wherever which
    while who whom whose why will with within without would you your yours s t d ll re ve m don
    didn doesn isn aren wasn won couldn shouldn wouldn explain describe show find list
    什么 么时 时候 何时 如何 怎么 为什 多少 哪里 哪个
    です すか ます まし した いつ どこ どう どの
    """.split()  # noqa: SIM905 - a list of 200 strings is no easier to read
)

# Scripts written without spaces: the tokenizer would take a whole clause for one word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff]+"
)
_CAMEL = re.compile(r"\b\w*[a-z0-9][A-Z]\w*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def indexable(text: str) -> str:
    """Return the text as it is indexed: unspaced scripts in pairs, CamelCase also in parts."""
    if not text.isascii():
        text = _UNSPACED.sub(lambda run: f" {_pairs(run[0])} ", text)
    return _CAMEL.sub(lambda word: f"{word[0]} {_HUMP.sub(' ', word[0])}", text)


def terms(question: str) -> list[str]:
    """Return the distinct words of a question that carry meaning, in order.

    Question and stop words are dropped, unless nothing else is left.
    """
    if len(question) > 2 * MAX_CHARS:
        question = f"{question[:MAX_CHARS]} {question[-MAX_CHARS:]}"
    spaced = "".join(char if _in_word(char) else " " for char in indexable(question))
    words = [word for word in spaced.lower().split() if word.strip("_")]
    telling = [word for word in words if word not in STOP] or words
    distinct = list(dict.fromkeys(telling))
    if len(distinct) > MAX_TERMS:
        half = MAX_TERMS // 2
        return distinct[:half] + distinct[-half:]
    return distinct


def prefix(term: str) -> str:
    """Return what matches a term, and longer words too when it is long enough to tell them apart.

    It is a string of the FTS5 query language, so that nothing in it has a meaning.
    """
    quoted = '"' + term.replace('"', '""') + '"'
    return f"{quoted}*" if len(term) >= PREFIX_FROM else quoted


def _in_word(char: str) -> bool:
    # Marks too: in many scripts they are the vowels.
    return char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"


def _pairs(run: str) -> str:
    return " ".join(run[at : at + 2] for at in range(max(1, len(run) - 1)))
