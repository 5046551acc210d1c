"""What the model says, and how many tokens it took: no model, but a pure function of the prompt."""

import re

ECHOED = 2000  # characters of a question that are repeated

_HEADING = re.compile(r"=== (.+) \([\d,]+ lines?\)")
_LINE = re.compile(r"(\d+)\t(.*)")


def question_in(user: str) -> str:
    """Return the question without what stands above it."""
    return user.rpartition("The question:\n")[2].strip()


def answer_to(system: str, user: str) -> str:
    question = question_in(user)
    words = set(re.findall(r"\w{5,}", question[:ECHOED].lower()))
    citation = _first_line(f"{system}\n{user}", words)
    return f"You asked: {question[:ECHOED]}" + (f" [{citation}]" if citation else "")


def pieces_of(text: str) -> list[str]:
    """Return the text in pieces of a few words, as models give it."""
    return re.findall(r"(?:\S*\s*){1,3}", text)[:-1] or [text]


def tokens(text: str) -> int:
    return len(text.encode()) // 4 + 1


def _first_line(prompt: str, words: set[str]) -> str:
    name = ""
    for line in prompt.split("\n"):
        if heading := _HEADING.fullmatch(line):
            name = heading[1]
        elif (
            name
            and (found := _LINE.fullmatch(line))
            and words & set(re.findall(r"\w{5,}", found[2].lower()))
        ):
            return f"{name}:{found[1]}-{found[1]}"
    return ""
