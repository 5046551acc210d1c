"""Text to search in: made up, but distributed as language is, and the same for the same seed.

Words come with the frequencies of Zipf and Mandelbrot, in sentences, paragraphs and sections; some
paragraphs hold a number of their own, by which the vocabulary grows with the text as it does in
manuals. A file has the size of a long chapter.
"""

import itertools
import random
from pathlib import Path

_VOCABULARY = 50_000
_SYLLABLES = [first + vowel for first in "bdfghklmnprstvwz" for vowel in ("a", "e", "i", "o", "u")]
_FILE_BYTES = 20_000
# A question asks with words that are neither everywhere nor nowhere, ranked by frequency.
_TOPIC, _DETAIL = (50, 1_000), (1_000, 20_000)
_ASKING = ("How does the {} {} the {} of {}?", "What is the {} of {} when {} is {}?")


class Prose:
    """An author; two with the same seed write and ask the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        words: dict[str, None] = {}
        while len(words) < _VOCABULARY:
            words["".join(self._random.choices(_SYLLABLES, k=self._random.randint(2, 4)))] = None
        self._words = list(words)
        shares = (1 / (rank + 2.7) for rank in range(_VOCABULARY))
        self._weights = list(itertools.accumulate(shares))

    def write(self, folder: Path, size: int) -> None:
        """Write so many bytes of text, in whole files of 20 kB and a rest, into a new folder."""
        folder.mkdir()
        for number, at in enumerate(range(0, size, _FILE_BYTES)):
            text = self._chapter()[: min(_FILE_BYTES, size - at)]
            (folder / f"chapter-{number:05}.md").write_text(text, "ascii")

    def question(self) -> str:
        """Return a question that some passages answer."""
        ranks = [self._random.randrange(*span) for span in (_TOPIC, _DETAIL, _DETAIL, _TOPIC)]
        return self._random.choice(_ASKING).format(*(self._words[rank] for rank in ranks))

    def _chapter(self) -> str:
        """Return a file's worth of text or a little more."""
        parts = [f"# {self._title()}"]
        length = 0
        while length < _FILE_BYTES:
            if self._random.random() < 0.2:
                parts.append(f"## {self._title()}")
            parts.append(self._paragraph())
            length += len(parts[-1])
        return "\n\n".join(parts)

    def _paragraph(self) -> str:
        sentences = [self._sentence() for _ in range(self._random.randint(2, 6))]
        if self._random.random() < 0.2:
            sentences.append(f"See AP-{self._random.randrange(10**6)}.")
        return " ".join(sentences)

    def _sentence(self) -> str:
        return f"{' '.join(self._draw(self._random.randint(8, 20))).capitalize()}."

    def _title(self) -> str:
        return " ".join(self._draw(3)).capitalize()

    def _draw(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._weights, k=count)
