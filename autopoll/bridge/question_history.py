"""All that a store knows of one question and how it came to its answer."""

from collections.abc import Sequence

import msgspec

from autopoll.bridge.attempt_record import AttemptRecord


class QuestionHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its delivery; times are wall-clock milliseconds by the clock of the store.

    `attempts` are as they were recorded, oldest first: those that an earlier version made are
    missing. `before` are the unsettled ones of its lane that come first, at most ten of them.
    `owner_host` and `owner_folder` are of the home that holds it now. `answer_to` is the question
    that this message answers, if it is an answer itself.
    """

    message_id: int
    conversation: str
    sender: str
    session: str
    sent_at: int | None  # None for a time of another program that cannot be read
    state: str  # sent | queued | ready | leased | done | dead
    shard: str | None = None
    lane: str = ""
    tries: int = 0  # of which those that were given back do not count
    not_before: int = 0
    enrolled_at: int | None = None
    changed_at: int | None = None
    settled_at: int | None = None
    dismissed_at: int | None = None
    last_error: str | None = None
    attempts: Sequence[AttemptRecord] = ()
    before: Sequence[int] = ()
    answer_id: int | None = None
    answer_to: int | None = None
    retry_of: int | None = None
    retried_as: int | None = None
    owner_host: str | None = None
    owner_folder: str | None = None
    now: int = 0
