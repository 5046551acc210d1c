"""What every engine of the bridge does; one test suite runs over all of them.

Every method commits before it returns, or raises BridgeError (BridgeBusy, BridgeFull) and has
changed nothing. After BridgeUnavailable alone nobody knows whether it has changed anything. Reads,
`store`, `settle` and `renew` are repeated then, and a claim is followed by `release_unconfirmed`.

Methods are called in the loop that shows the poller to be alive. None blocks for longer than
LONGEST_CALL_S, whatever it waits for; then it raises BridgeBusy or BridgeUnavailable. The embedded
store runs inline; an engine that speaks over a network bounds each wait itself.

What is read beyond a number passes no row that may still be committed below it: who goes on from
the last number that it was given misses nothing.

A session is 'a' or 'b'; others raise UsageError. Times are wall-clock milliseconds unless a name
says otherwise.
"""

from collections.abc import Sequence
from typing import Protocol

from autopoll.bridge.delivery_protocol import DeliveryStore
from autopoll.bridge.foreign_watch import Watch
from autopoll.bridge.question_history import QuestionHistory
from autopoll.bridge.question_list import QuestionList
from autopoll.bridge.queue_records import QueuePage
from autopoll.bridge.records import (
    AnsweringHome,
    Arrival,
    AuditEntry,
    Backlog,
    Conversation,
    DeadLetter,
    Finished,
    Message,
    Presence,
    QueryState,
    RecentAnswer,
    Spent,
    Stored,
    StoreWarning,
    Tokens,
)
from autopoll.bridge.retention_protocol import RetentionStore


class ConversationStore(Protocol):
    """Conversations: their tokens, the shards that serve them, and which sessions are alive."""

    def create(self, role_a: str, role_b: str) -> Tokens:
        """Create a conversation of two sessions."""

    def all(self) -> list[Conversation]:
        """Return all conversations, oldest first."""

    def get(self, conversation: str) -> Conversation:
        """Return one conversation; raise NotFound."""

    def rotate_token(self, conversation: str, session: str) -> str:
        """Replace a session's token at once and return the new one; raise NotFound."""

    def revoke_token(self, conversation: str, session: str) -> None:
        """End a session's token without a new one; raise NotFound."""

    def authenticate(self, conversation: str, token: str) -> str:
        """Return the session ('a' or 'b') that the token proves; renew it like `renew_token`.

        Raises AccessDenied when it is wrong, malformed, expired or revoked, and NotFound when there
        is no such conversation; both are audited.
        """

    def renew_token(self, conversation: str, token: str) -> bool:
        """Renew a token, expired or not, and return whether it proves a session.

        For the home that keeps the token. A wrong or revoked token is left alone. Writes only when
        less than half of the token's lifetime is left. Raises NotFound, and audits nothing.
        """

    def find_by_token(self, token: str) -> str | None:
        """Return the conversation that a token was made for; this proves nothing yet.

        Those of other bridge programs are not found: they are stored in the clear, and the time of
        a search would show how much of a wrong one was right.
        """

    def audit_denial(self, conversation: str | None, why: str) -> None:
        """Audit a refusal: a line a minute for each conversation, else each (of few) `why`."""

    def audit(
        self, conversation: str | None, session: str | None, action: str, details: str
    ) -> None:
        """Write a line to the audit log; `details` is JSON or becomes so, secrets are redacted."""

    def serve(self, conversation: str, session: str, shard: str) -> None:
        """Route a session, with what is enrolled but not begun, to a shard; raise NotFound."""

    def unserve(self, conversation: str, session: str) -> None:
        """Stop routing; what is enrolled already is still answered; raise NotFound."""

    def routes(self) -> dict[tuple[str, str], str]:
        """Return (conversation, session) -> shard."""

    def shard_of(self, conversation: str, session: str) -> str | None:
        """Return the shard that serves a session, None when none does."""

    def set_status(self, conversation: str, session: str, status: str) -> None:
        """Note what a session is doing, which is a sign of life too; raise NotFound."""

    def presence(self, conversation: str, session: str) -> Presence:
        """Return the last status of a session; raise NotFound for the conversation."""

    def announce(self) -> None:
        """Let partners see every served session as alive, for 120 s, as legacy clients look for it.

        One SELECT unless a session was announced more than 45 s ago or never.
        """


class MessageStore(Protocol):
    """Messages: stored, received, listed, and how far a query has come."""

    def store(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        """Store messages in one commit, each once and on its own merits; return one item for each.

        The message, not fresh when an earlier try had stored it or its key is known, for a day; or
        the error it is refused by: NotFound, RateLimited, UsageError (too large, no such session,
        or metadata that is not a JSON object), KeyReused for a key of another message, RowRefused.
        Each is charged to its session's rate limit (GCRA), which all processes share; what is
        refused costs nothing.
        """

    def receive(self, conversation: str, session: str, limit: int = 100) -> list[Message]:
        """Return the unread messages of a session and mark them read; raise NotFound.

        Fewer than `limit` when their text is 16 MiB or more; the rest stays unread.
        """

    def find(
        self,
        *,
        conversation: str | None = None,
        session: str | None = None,
        unread: bool = False,
        waiting: bool = False,
        kind: str | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Message]:
        """Return messages without marking them read: the newest `limit`, oldest first; with
        `after`, the first `limit` beyond that id. Those from `before` on are left out.

        Fewer when their text is 16 MiB or more. `session` is the recipient; `kind` the type (query,
        response, …, text). `unread` is the flag in the table. `waiting` selects questions that
        have no answer yet, enrolled or not, and what a session has still to read, except answers to
        independent questions. Raises NotFound for the conversation.
        """

    def newest(self) -> int:
        """Return the number beyond which to read, so that nothing new is missed; -1 for none."""

    def message(self, message_id: int) -> Message:
        """Return one message without marking it read; raise NotFound."""

    def query_state(self, message_id: int) -> QueryState:
        """Return the state of one query; raise NotFound."""

    def query_states(self, message_ids: Sequence[int]) -> list[QueryState]:
        """Return the states of those queries that exist, by one SELECT."""


class Overview(Protocol):
    """Numbers and dead letters, for operators."""

    def counts(self) -> dict[str, int]:
        """Return how many deliveries each state has; of the dead only what `dead_letters` lists."""

    def in_flight(self) -> dict[str, int]:
        """Return the number of leased deliveries per shard."""

    def waiting(self) -> dict[str, int]:
        """Return the number of enrolled, unsettled deliveries per shard, for shards with any."""

    def homes(self) -> list[AnsweringHome]:
        """Return the homes that have answered, ordered by host and folder; ages by the clock of
        the store.
        """

    def history(self, message_id: int) -> QuestionHistory:
        """Return how one question came to its answer, or how far it has come; raise NotFound."""

    def queue(self, *, shard: str | None, after: int, limit: int) -> QueuePage:
        """Return what has no answer yet, oldest first, beyond a number; also what is not enrolled.

        At most `limit`; fewer where messages that want no answer lie between, though more follow.
        """

    def questions(
        self,
        *,
        state: str | None,
        shard: str | None,
        conversation: str | None,
        before: int | None,
        limit: int,
    ) -> QuestionList:
        """Return enrolled questions, the newest first, before a number; no canaries.

        `state` is done or dead; `queue` lists what waits. At most `limit`, fewer where few of many
        are as wanted. Raises ValueError for another state.
        """

    def latencies_ms(self, last: int = 1000) -> list[int]:
        """Return enrolment-to-answer times of the newest answered queries."""

    def recent_answers(self, last: int = 1000) -> list[RecentAnswer]:
        """Return the answers to the newest questions that are answered, the newest first."""

    def spent(self, day: str | None = None) -> dict[str, Spent]:
        """Return what each shard has cost on a UTC day ("2026-03-01"), or in all; one SELECT."""

    def backlog(self) -> list[Backlog]:
        """Return what waits, by shard and state, also what is not enrolled yet."""

    def finished(self, after: int, limit: int) -> list[Finished]:
        """Return the next questions finished beyond a number, at most `limit`, in order."""

    def audit_entries(
        self,
        *,
        conversation: str | None = None,
        action: str | None = None,
        since: str | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Return lines of the audit log: the newest `limit`, oldest first; with `after`, the first
        `limit` beyond that id. Those from `before` on are left out.

        `since` is a naive UTC ISO string. Long details are cut off.
        """

    def newest_audit(self) -> int:
        """Return the number beyond which to read, so that no new line is missed; -1 for none."""

    def dead_letters(
        self, *, message_id: int | None = None, text_bytes: int | None = None
    ) -> list[DeadLetter]:
        """Return the dead letters, oldest first, or one, but none that was retried or dropped.

        Texts are cut after `text_bytes`.
        """

    def retry_dead(self, message_id: int) -> int:
        """Ask a dead letter again as a new message, with an answer of its own; raise NotFound."""

    def drop_dead(self, message_id: int) -> None:
        """Forget a dead letter (its message and error answer stay); raise NotFound."""


class Bridge(Protocol):
    """One open store, of which each part is a protocol of its own."""

    @property
    def conversations(self) -> ConversationStore:
        """Conversations, their tokens, routes and presence."""

    @property
    def messages(self) -> MessageStore:
        """What both sides write and read."""

    @property
    def deliveries(self) -> DeliveryStore:
        """What the answering side does."""

    @property
    def overview(self) -> Overview:
        """What an operator looks at."""

    @property
    def retention(self) -> RetentionStore:
        """What is forgotten when it is old."""

    def close(self) -> None:
        """Close the store and stop being its answerer; tolerated twice."""

    def changed(self) -> bool:
        """Return cheaply whether another connection committed since the last call."""

    def require_in_place(self) -> None:
        """Raise BridgeError when others would open another store now; cheap, for each second."""

    def watch(self) -> Watch:
        """Return a watch for foreign writers; raise BridgeError when there can be none."""

    def warnings(self) -> list[StoreWarning]:
        """Return what about the store does no harm yet: of its disk, or of its server."""

    def examine(self, seconds: float) -> bool:
        """Look for damage, changing nothing; return whether all was seen in the time.

        Raises BridgeError that names what is damaged.
        """
