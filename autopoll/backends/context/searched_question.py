"""A question as the index sees it, and what sections and passages score for it; pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from autopoll.backends.context import ranking
from autopoll.backends.context.paragraphs import Paragraph

HEAVIEST = 8  # words by which a question is measured: nobody answers all of a page of text


class SearchedQuestion:
    """The telling words of a question with their weights and stems.

    `pairs` are the stems of neighbours in it. A passage that scores less than `least` is no answer.
    """

    def __init__(
        self,
        text: str,
        weights: Mapping[str, float],
        stem: Mapping[str, str],
        pairs: Sequence[tuple[str, str]],
    ) -> None:
        self.weights = weights
        self.stem = stem  # of each word
        heaviest = sorted(weights.values())[-HEAVIEST:]
        self.least = ranking.least(sum(heaviest) / len(heaviest))
        self._total = sum(heaviest)
        self._pairs = pairs
        self._stem_weights = {stem[word].strip(): weight for word, weight in weights.items()}
        self._stems = list(self._stem_weights)
        self._is_in_words = ranking.asks(text)
        self._asks_whether = ranking.asks_whether(text)
        self._asks_how = ranking.asks_how(text)

    def section_score(self, bm25: float, heading: AbstractSet[str], text: Sequence[str]) -> float:
        """Return what a section counts, by what its words count and by where they stand.

        `heading` are the telling stems of its heading, `text` all of its stems.
        """
        return (
            ranking.SECTION * bm25 / self._total
            + ranking.NEARNESS * ranking.nearness(self._stems, self._stem_weights, text)
            + ranking.HEADING * ranking.likeness(self._stem_weights, heading)
        )

    def passage_score(self, passage: Sequence[Paragraph], text: Sequence[str]) -> float:
        """Return what a passage counts by itself, of which `text` are the stems."""
        score = ranking.PASSAGE * ranking.richness(self._stem_weights, text) / self._total
        score += ranking.RELATIVES * ranking.relatives(self._stem_weights, text) / self._total
        score += ranking.PAIRS * ranking.together(self._pairs, text)
        if self._asks_whether and any(ranking.is_verdict(each.text) for each in passage):
            score += ranking.VERDICT
        return score

    def standing(self, title: str, passage: Sequence[Paragraph]) -> float:
        """Return by what the score of a passage is multiplied for what it is."""
        return ranking.standing(title, passage, self._is_in_words, self._asks_how)
