"""Leaves out what a model thinks before it answers, where a service does not part the two; pure.

Thoughts stand between tags at the very beginning of the text. Some templates of prompts hold the
first tag already, so that only the last one comes; for a model known to do so, the text is held
back until then.
"""

import re

_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
_LONGEST = max(len(tag) for pair in _TAGS for tag in pair)
_FIRSTS = tuple(first.lower() for first, _ in _TAGS)
# The last tag without the first; not where a text only speaks of it.
_BARE = re.compile(r"(?<![`'\"])</think(?:ing)?>(?![`'\"])", re.I)
_FIRST = re.compile(r"<think", re.I)
# Models whose templates are known to hold the first tag.
_THINKERS = re.compile(
    r"qw(?:en|q)|deepseek|\br1\b|think|reason|glm|nemotron|magistral|minimax|hunyuan|exaone", re.I
)


def may_omit_the_first_tag(model: str) -> bool:
    """Return whether a model, by its name, is of a family that may send only the last tag."""
    return _THINKERS.search(model) is not None


class Thoughts:
    """Takes the text of one answer piece by piece, and gives what is no thought."""

    def __init__(self, *, hold: bool = False) -> None:
        """With `hold`, nothing is given before a last tag or the end has come."""
        self.tagged = False  # there were thoughts between two tags
        self.bare = False  # there were thoughts that had only the last one
        self._hold = hold
        self._waiting = ""  # what cannot be given yet
        self._closing: re.Pattern[str] | None = None  # of the thoughts in which we are
        self._searched = 0  # characters of what waits, in which there is no last tag
        self._given = False  # something has been given, so that no thoughts begin any more

    def release(self) -> None:
        """Hold nothing back: the service sends thoughts in a field of their own."""
        self._hold = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what can be given now."""
        if self._given:
            return text
        self._waiting += text
        return self._give(at_end=False)

    def end(self) -> str:
        """Return what is left at the end; thoughts that are not ended are none of it."""
        return "" if self._given else self._give(at_end=True)

    def _give(self, *, at_end: bool) -> str:
        while True:
            if self._closing:
                found = self._closing.search(self._waiting)
                if not found:
                    # Thoughts are long; only what may be the beginning of the tag is kept.
                    self._waiting = self._waiting[-_LONGEST:]
                    return ""
                self._waiting, self._closing = self._waiting[found.end() :], None
            text = self._waiting.lstrip()
            if pair := _begun(text):
                self._closing = re.compile(re.escape(pair[1]), re.I)
                self._waiting = text[len(pair[0]) :]
                self.tagged, self._hold = True, False
                continue
            if not at_end and (self._is_held() or _may_begin(text)):
                return ""
            self._given, self._waiting = True, ""
            if self._hold:
                text, self.bare = without_thoughts(text)
            return text

    def _is_held(self) -> bool:
        """Return whether no last tag has come yet, though one may."""
        if not self._hold:
            return False
        found = _BARE.search(self._waiting, max(0, self._searched - _LONGEST))
        self._searched = len(self._waiting)
        return found is None


def without_thoughts(text: str) -> tuple[str, bool]:
    """Return a text without thoughts that have only a last tag, and whether there were any."""
    bare = _BARE.search(text)
    if bare is None or _FIRST.search(text, 0, bare.start()):
        return text, False
    return text[bare.end() :].lstrip(), True


def _begun(text: str) -> tuple[str, str] | None:
    start = text[:_LONGEST].lower()
    return next((pair for pair in _TAGS if start.startswith(pair[0].lower())), None)


def _may_begin(text: str) -> bool:
    """Return whether more of the text might make it begin with a tag."""
    low = text[:_LONGEST].lower()
    return any(first.startswith(low) for first in _FIRSTS)
