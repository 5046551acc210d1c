"""What every engine of the bridge does; one test suite runs over all of them.

A delivery is the way of one message to its answer:

    queued -> ready -> leased -> done
                 ^        |----> ready   (retry, expiry, release)
                 |        `----> dead    (an error answer is written with it)

Only the head of a lane is `ready`; the rest of the lane waits as `queued`. A lease is held under a
fence, a number that grows with every claim; a settle under an old fence is refused, so that of two
instances that were asked the same question only one can answer.

Every method commits before it returns and raises BridgeError (BridgeBusy, BridgeFull) with nothing
changed when it cannot. Times are wall-clock milliseconds unless a name says otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from autopoll.message import Answer
from autopoll.request import Usage


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


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome: try again after `wait_ms`, or dead when attempts are used up or `permanent`."""

    message_id: int
    fence: int
    error: str
    wait_ms: int
    permanent: bool = False
    usage: Usage | None = None


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome: never begun, so the attempt is given back and it is ready at once."""

    message_id: int
    fence: int
    usage: Usage | None = None  # to be told that a service works for nobody may have cost something


Outcome = Answered | Failed | Released


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What an outcome led to; `lost` means the fence was old and nothing was changed."""

    message_id: int
    state: str  # done | ready | dead | lost
    answer_id: int | None = None
    waiter: str | None = None  # bell of whoever waits for this message


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A new conversation and its two tokens, shown this once."""

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


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A name that a sender gives to one message, so that repeating it sends nothing twice.

    `scope` is whose names they are; `digest` tells the message from another one.
    """

    scope: str
    name: str
    digest: bytes


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is stored; not `fresh` when it was before, under the same key."""

    id: int
    fresh: bool


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What a session last said of itself; `alive` as legacy partners see it (for 120 s)."""

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


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a shard has cost in a day, failed tries too; dollars as far as they were told.

    `answers` counts those answers that told what they have cost.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None
    answers: int = 0

    @property
    def tokens(self) -> int:
        """All of them: what is read from a cache is cheaper, and not free."""
        return self.input_tokens + self.output_tokens + self.cached_tokens


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


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A query whose attempts are used up."""

    message_id: int
    conversation: str
    shard: str
    attempts: int
    last_error: str
    settled_at: int
    text: str


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine enforces; sizes in bytes of UTF-8."""

    max_attempts: int = 5
    max_message: int = 8 * 1024 * 1024
    token_lifetime_s: float = 30 * 86400.0
    rate_per_s: float = 100.0
    rate_burst: int = 2000
    redact: bool = True


class Watch(Protocol):
    """A descriptor that becomes readable when a foreign program may have written."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        ...

    def read(self) -> bool:
        """Take what is pending; tell whether it concerned the store."""
        ...

    def close(self) -> None:
        """Stop watching; tolerated twice."""
        ...


class Bridge(Protocol):
    """The store of conversations, messages and deliveries."""

    def close(self) -> None:
        """Let go of the store; tolerated twice."""
        ...

    # --- conversations and access

    def create_conversation(self, role_a: str, role_b: str) -> Tokens:
        """Create a conversation of two sessions."""
        ...

    def conversations(self) -> list[Conversation]:
        """Return all conversations, oldest first."""
        ...

    def conversation(self, conversation: str) -> Conversation:
        """Return one conversation; raise NotFound."""
        ...

    def rotate(self, conversation: str, session: str) -> str:
        """Replace a session's token and return the new one; the old one ends at once."""
        ...

    def revoke(self, conversation: str, session: str) -> None:
        """End a session's token without a new one."""
        ...

    def authenticate(self, conversation: str, token: str) -> str:
        """Return the session ('a' or 'b') the token proves, renewing its expiry while in use.

        Raises AccessDenied (audited) when it is wrong, malformed, expired or revoked, NotFound
        when there is no such conversation.
        """
        ...

    def prolong(self, conversation: str, token: str) -> bool:
        """Renew a token on behalf of the home that keeps it, expired or not; tell whether it opens.

        A wrong or revoked one is left alone. Writes only when less than half of its life is left.
        Raises NotFound when there is no such conversation.
        """
        ...

    def whose(self, token: str) -> str | None:
        """Return the conversation that a token was made for, which proves nothing yet.

        Tokens that another bridge program made are not found: they are kept in the clear, and
        looking one up would tell by the time taken how much of it was right.
        """
        ...

    def deny(self, conversation: str | None, why: str) -> None:
        """Audit a refusal: one line a minute for each conversation, or else each `why`, of which
        there must be few."""
        ...

    def audit(
        self, conversation: str | None, session: str | None, action: str, details: str
    ) -> None:
        """Write a line into the audit log; secrets in it are redacted."""
        ...

    # --- the asking side

    def send(
        self, conversation: str, session: str, texts: Sequence[str], metadata: Sequence[str | None]
    ) -> list[int]:
        """Store messages from a session to its partner in one commit and return their ids.

        They are taken from the session's rate budget (GCRA), which all processes share; what is
        refused costs nothing. Raises
        NotFound, RateLimited, UsageError (too large, more at once than the budget ever holds, or
        metadata that is not a JSON object).
        """
        ...

    def send_once(
        self, conversation: str, session: str, text: str, metadata: str | None, key: Key
    ) -> Sent:
        """Store a message and its key in one commit; under a known key, return what it stands for.

        A key is remembered for a day. Raises as `send` does, and KeyReused when the key stands for
        something else.
        """
        ...

    def inbox(self, conversation: str, session: str, limit: int = 100) -> list[Message]:
        """Take the unread messages of a session, marking them read, as a legacy reader does.

        Fewer than `limit` when their text is 16 MiB or more; the rest stays unread.
        """
        ...

    def messages(
        self,
        *,
        conversation: str | None = None,
        session: str | None = None,
        unread: bool = False,
        waiting: bool = False,
        kind: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Message]:
        """Return messages without consuming them: the newest `limit`, oldest first; with `after`,
        the first `limit` beyond that id. `kind` filters by type (query, response, …, text). Fewer
        when their text is 16 MiB or more.

        `unread` is the flag in the table. `waiting` is what waits for somebody: questions that have
        no answer yet, taken by a poller or not, and what a session has still to read; an answer to
        an independent question waits for nobody.
        """
        ...

    def query(self, message_id: int) -> QueryState:
        """Return the state of one query; raise NotFound."""
        ...

    def set_status(self, conversation: str, session: str, status: str) -> None:
        """Note what a session is doing, which is a sign of life too; raise NotFound."""
        ...

    def presence(self, conversation: str, session: str) -> Presence:
        """Return what a session last said of itself; raise NotFound for the conversation."""
        ...

    def queries(self, message_ids: Sequence[int]) -> list[QueryState]:
        """Return the states of many queries in one look, leaving out those there are none of."""
        ...

    # --- the answering side

    def serve(self, conversation: str, session: str, shard: str) -> None:
        """Route what is sent to this session to a shard; raise NotFound."""
        ...

    def unserve(self, conversation: str, session: str) -> None:
        """Stop routing; what is enrolled already is still answered; raise NotFound."""
        ...

    def routes(self) -> dict[tuple[str, str], str]:
        """Return (conversation, session) -> shard."""
        ...

    def route(self, conversation: str, session: str) -> str | None:
        """Return the shard that answers a session, None when none does."""
        ...

    def take_over(self, owner: str) -> int:
        """Make `owner` the one answerer and free what earlier owners still held; return how many.

        Holds until `close`; raises AlreadyRunning while another process is the answerer, of
        whatever home. An owner's death is not the query's fault: the attempt is given back, up to
        20 claims.
        """
        ...

    def announce(self) -> None:
        """Let partners see every served session as alive, the way legacy clients look for it.

        They count a session as alive for 120 s; one SELECT unless some were announced over 45 s
        ago or never, so that it may be called every few seconds.
        """
        ...

    def take(self, owner: str, wanted: Mapping[str, int], lease_ms: int) -> list[Delivery]:
        """Enrol what is new and claim up to `wanted[shard]` ready deliveries for each shard.

        Costs one SELECT when there is nothing to do. Messages that want no answer are left as they
        are. Claims commit without fsync: a lease need not outlive a power cut.
        """
        ...

    def turn(
        self, outcomes: Sequence[Outcome], owner: str, wanted: Mapping[str, int], lease_ms: int
    ) -> tuple[list[Settled], list[Delivery]]:
        """Settle, and take what is then to be had, in one commit; without outcomes just `take`."""
        ...

    def renew(self, leases: Iterable[tuple[int, int]], lease_ms: int) -> set[int]:
        """Extend (message_id, fence) leases; return the ids still held. Missing ids are lost."""
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Finish deliveries in one durable commit, each on its own merits, and promote lanes.

        What they have cost is added to the day of their shard, also when the lease was lost: spent
        is spent. Outcomes without usage cost no statement for it.
        """
        ...

    def reap(self) -> list[Settled]:
        """Free or bury deliveries whose lease expired, and promote any lane left without a head."""
        ...

    def changed(self) -> bool:
        """Tell cheaply whether another connection committed since the last call."""
        ...

    def require_in_place(self) -> None:
        """Raise BridgeError when the store that is open is no longer the one that others find.

        Cheap enough for once a second; whoever keeps a bridge open for long has to look.
        """
        ...

    def watch(self) -> Watch:
        """Return a watch for foreign writers."""
        ...

    # --- looking

    def examine(self, seconds: float) -> bool:
        """Look for damage for so long, changing nothing; tell whether all was seen in the time.

        Raises BridgeError that says what is damaged.
        """
        ...

    def counts(self) -> dict[str, int]:
        """Return the number of deliveries per state, all five states present."""
        ...

    def in_flight(self) -> dict[str, int]:
        """Return the number of leased deliveries per shard."""
        ...

    def waiting(self) -> dict[str, int]:
        """Return the number of deliveries per shard that are not settled, for shards that have any.

        A message that is not enrolled yet is none of them.
        """
        ...

    def latencies_ms(self, last: int = 1000) -> list[int]:
        """Return enrolment-to-answer times of the newest answered queries."""
        ...

    def spent(self, day: str | None = None) -> dict[str, Spent]:
        """Return what each shard has cost on a UTC day ("2026-03-01"), or in all; one SELECT."""
        ...

    def backlog(self) -> list[Backlog]:
        """Return what waits, by shard and state, also what nobody has enrolled yet."""
        ...

    def finished(self, after: int, limit: int) -> list[Finished]:
        """Return the next questions finished beyond a number, at most `limit`, in order."""
        ...

    def dead(
        self, *, message_id: int | None = None, text_bytes: int | None = None
    ) -> list[DeadLetter]:
        """Return the dead letters, oldest first, or only one; texts cut at so many bytes."""
        ...

    def retry_dead(self, message_id: int) -> int:
        """Ask a dead letter again as a new message of its own; return the new id; raise NotFound.

        The error answer stands: a query has exactly one answer row, so the retry is a new query.
        """
        ...

    def drop_dead(self, message_id: int) -> None:
        """Forget a dead letter (its message and error answer stay); raise NotFound."""
        ...
