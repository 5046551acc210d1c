"""Looking for words in questions and their answers, the newest first; within a time."""

import time

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.question_list import QuestionList

_PAGE = 500  # questions of one look


def find_questions(
    bridge: Bridge,
    words: str,
    *,
    state: str | None,
    shard: str | None,
    before: int | None,
    limit: int,
    seconds: float,
) -> QuestionList:
    """Return questions in which the words stand, in any case, or in what was answered.

    Ends after so many, or after the time, with `next` to go on before. Without words all are found.
    """
    wanted = " ".join(words.split()).casefold()
    if not wanted:
        return bridge.overview.questions(
            state=state, shard=shard, conversation=None, before=before, limit=limit
        )
    found = []
    end = time.monotonic() + seconds
    while True:
        page = bridge.overview.questions(
            state=state, shard=shard, conversation=None, before=before, limit=_PAGE
        )
        for each in page.questions:
            before = each.id
            if wanted in _folded(f"{each.question} {each.answer or ''}"):
                found.append(each)
            if len(found) == limit:
                return QuestionList(questions=found, next=before)
        before = page.next
        if before is None or time.monotonic() > end:
            return QuestionList(questions=found, next=before)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
