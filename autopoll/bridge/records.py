"""The plain data that goes into and comes out of a bridge.

Times are wall-clock milliseconds unless a name says otherwise.
"""

import time
from typing import NamedTuple

import msgspec

from autopoll.bridge.attempt_record import AttemptTimes
from autopoll.errors import AutopollError
from autopoll.message import Answer
from autopoll.request import Usage

LONGEST_CALL_S = 3.0  # that a method of an engine may block
SURE_S = 2.0  # for which an asker waits for the poller's word that its question is stored


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A question claimed under a lease. `text` is None when the message is over the size limit."""

    message_id: int
    conversation: str
    session: str
    shard: str
    lane: str
    text: str | None
    metadata: str | None
    fence: int
    attempt: int
    enrolled_at: int


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome: the answer to write under the given fence (also a permanent failure's)."""

    message_id: int
    fence: int
    answer: Answer
    seconds: float = 0.0
    usage: Usage | None = None
    times: AttemptTimes | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome: try again after `wait_ms`, or dead when attempts are used up or `permanent`."""

    message_id: int
    fence: int
    error: str
    wait_ms: int
    permanent: bool = False
    usage: Usage | None = None
    times: AttemptTimes | None = None


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome: never begun, so the attempt is given back and it is ready at once."""

    message_id: int
    fence: int
    usage: Usage | None = None  # a refusal by a service may have cost something too
    times: AttemptTimes | None = None


Outcome = Answered | Failed | Released


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What an outcome led to; `lost` means the lease was not held and nothing was changed."""

    message_id: int
    state: str  # done | ready | dead | lost
    answer_id: int | None = None
    query: "QueryState | None" = None  # as it is stored now; None when lost


class Answerer(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a poller: the owner of its leases, and the home that it answers for.

    A home is told from others by its identity; a copy of one has the same and another (host,
    folder).
    """

    owner: str  # random, for one start
    home: str
    host: str
    folder: str
    version: str
    shards: list[str]


class AnsweringHome(msgspec.Struct, frozen=True, kw_only=True):
    """A home that answers for the bridge, or did; by what its last poller has written.

    `alive` until a lease after its last beat, unless it has left. `in_flight` counts what is leased
    to that poller.
    """

    host: str
    home: str
    folder: str
    version: str
    shards: list[str]
    beat_age_ms: int
    alive: bool
    in_flight: int


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A new conversation and its two tokens, which are shown only now."""

    conversation: str
    a: str
    b: str


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is listed; never with tokens."""

    id: str
    role_a: str
    role_b: str
    created_at: str
    expires_at: str | None
    revoked: list[str]  # sessions whose token was revoked
    served: dict[str, str]  # session -> shard
    messages: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it is listed."""

    id: int
    conversation: str
    sender: str
    recipient: str
    text: str
    metadata: str | None
    timestamp: str
    read: bool


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True):
    """A name that a sender gives to one message, so that repeating it sends nothing twice.

    `scope` is the sender; `digest` identifies the message, to refuse its key for another.
    """

    scope: str
    name: str
    digest: bytes


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A question to be stored once, by the poller or by the asker itself; or any text by its key.

    `query_id` is random, and stands at the beginning of `text`. Where an earlier try may have
    stored it, it is looked for among the messages beyond number `after`. A text that has none, as
    it is no question of ours, has "" for it and must have a `key`.
    """

    query_id: str
    conversation: str
    session: str
    text: str
    metadata: str | None = None
    key: IdempotencyKey | None = None
    after: int = 0
    repeated: bool = False
    sent_at: float | None = None  # to the poller: moment of CLOCK_MONOTONIC, in seconds

    def may_be_stored(self) -> bool:
        """Tell whether its asker may have stored it meanwhile; asked under the write lock.

        An asker does not turn from the poller to the store before SURE_S are over.
        """
        if self.repeated or self.sent_at is None:
            return self.repeated
        return not 0 <= time.monotonic() - self.sent_at < SURE_S

    def is_new(self) -> bool:
        """Tell whether nothing is to be looked for before it is stored; under the write lock."""
        return self.key is None and not self.may_be_stored()


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message; not `fresh` when it was stored before under the same key."""

    id: int
    fresh: bool


Stored = SentMessage | AutopollError  # what becomes of a question: stored, or why it is refused


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """The last status of a session; `alive` for 120 s after it, as legacy partners see it."""

    session: str
    status: str  # "unknown" when it never gave one
    at: str | None
    age_s: float | None
    alive: bool


class QueryState(msgspec.Struct, frozen=True, kw_only=True):
    """All that one asker may see of a query, read without consuming anything."""

    message_id: int
    conversation: str
    session: str  # the session asked
    state: str  # sent (not yet enrolled) | queued | ready | leased | done | dead
    shard: str | None
    attempts: int
    last_error: str | None
    answer: Message | None
    enrolled_at: int | None
    settled_at: int | None


class StoreWarning(NamedTuple):
    """Something about the store that does no harm yet, and how to mend it."""

    name: str
    detail: str
    mend: str


class CommittedTurn(NamedTuple):
    """What one commit of the answerer has stored, settled and claimed."""

    stored: list[Stored]
    settled: list[Settled]
    claimed: list[Delivery]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard has cost, failed attempts included; dollars as far as they were reported.

    `answers` counts the answers that came with a report.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    answers: int = 0

    @property
    def tokens(self) -> int:
        """Return all tokens: one read from a cache is cheaper, not free."""
        return self.input_tokens + self.output_tokens + self.cached_tokens


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the audit log as it is listed; `details` is JSON but for other programs' lines."""

    id: int
    conversation: str | None
    session: str | None
    action: str
    details: str
    timestamp: str


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Questions of one shard that wait in one state; `oldest_at` is when the first was sent."""

    shard: str
    state: str  # sent | queued | ready | leased
    count: int
    oldest_at: int


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A question that has its answer, as it is counted; `number` grows with each."""

    number: int
    shard: str
    state: str  # done | dead
    latency_ms: int
    attempts: int


class RecentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it is counted: whose, when, and how long its question took."""

    shard: str
    settled_at: int
    latency_ms: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A query whose attempts are used up."""

    message_id: int
    conversation: str
    shard: str
    attempts: int
    last_error: str
    settled_at: int
    text: str


class BridgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine enforces; sizes in bytes of UTF-8."""

    max_attempts: int = 5
    max_message: int = 8 * 1024 * 1024
    token_lifetime_s: float = 30 * 86400.0
    rate_per_s: float = 100.0
    rate_burst: int = 2000
    redact: bool = True
