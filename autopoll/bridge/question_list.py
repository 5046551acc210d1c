"""What is shown of questions as a list, whatever has become of them.

Times are wall-clock milliseconds.
"""

import msgspec


class ListedQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled question as it is listed; of long texts only the beginning.

    `latency_ms` is from its enrolment to its answer. `failed`: the answer says why there is none.
    """

    id: int
    conversation: str
    asker: str  # session
    role: str
    shard: str
    state: str  # queued | ready | leased | done | dead
    asked_at: int
    settled_at: int | None
    latency_ms: int | None
    attempts: int
    last_error: str | None
    question: str
    answer: str | None
    failed: bool


class QuestionList(msgspec.Struct, frozen=True, kw_only=True):
    """Some questions, the newest first; `next` is what to go on before, None at the end.

    Where few are as wanted, a list may be short or empty though there is a `next`.
    """

    questions: list[ListedQuestion]
    next: int | None
