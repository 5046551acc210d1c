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
_CAMEL = re.compile(r"[a-z0-9][A-Z]")
_WORD = re.compile(r"\w*")
_WORD_IN = re.compile(r"[^\W_]")
_IDENTIFIER = re.compile(  # whole words, so that a word of any length is looked at once
    r"--?[A-Za-z][\w-]+|`[^`\n]{2,80}`"
    r"|(?<!\w)(?:[A-Za-z_]\w*+(?:(?:\.|::|->|/)[A-Za-z_]\w*+)+|__\w+|_?[^\W_]++_\w+)"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def indexable(text: str) -> str:
    """Return the text as it is indexed: unspaced scripts in pairs, CamelCase also in parts."""
    if not text.isascii():
        text = _UNSPACED.sub(lambda run: f" {_pairs(run[0])} ", text)
    return _with_parts(text) if _CAMEL.search(text) else text


def _with_parts(text: str) -> str:
    """Return the text with the parts of each word in CamelCase behind it."""
    pieces, at = [], 0
    for hump in _CAMEL.finditer(text):
        if hump.start() < at:
            continue  # of the same word
        found = _WORD.match(text, hump.start())
        assert found is not None
        first, end = hump.start(), found.end()
        while first > at and (text[first - 1].isalnum() or text[first - 1] == "_"):
            first -= 1
        pieces += [text[at:end], " ", _HUMP.sub(" ", text[first:end])]
        at = end
    return "".join([*pieces, text[at:]])


def identifiers(question: str) -> list[str]:
    """Return the names in a question that must stand together: subprocess.run, --flag, `a b`."""
    found = [each[0].strip("`") for each in _IDENTIFIER.finditer(question[:MAX_CHARS])]
    distinct = dict.fromkeys(name for name in found if _WORD_IN.search(name))
    return list(distinct)[:MAX_TERMS]


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
    return f"{quoted(term)}*" if len(term) >= PREFIX_FROM else quoted(term)


def quoted(text: str) -> str:
    """Return what matches a word, or words that stand together."""
    return '"' + text.replace('"', '""').replace("\0", " ") + '"'


def _in_word(char: str) -> bool:
    # Marks too: in many scripts they are the vowels.
    return char.isalnum() or char == "_" or unicodedata.category(char)[0] == "M"


def _pairs(run: str) -> str:
    return " ".join(run[at : at + 2] for at in range(max(1, len(run) - 1)))
