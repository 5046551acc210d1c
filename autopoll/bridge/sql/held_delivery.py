"""A leased delivery as a settle reads it, and as it ends with an answer."""

from typing import NamedTuple

from autopoll.bridge.records import Message, QueryState, Settled
from autopoll.bridge.sql.lanes import is_canary
from autopoll.bridge.sql.rows import AuditLine, MessageRow, other_session
from autopoll.message import to_json


class HeldDelivery(NamedTuple):
    """A delivery that is to end; `question` can always be read, and is empty when it was deleted.

    `next_cancelled` is the next in its lane if that was cancelled, to be answered after this one.
    `settled_by` is the owner where it ends the lease, None where the lease is ended for it.
    """

    message_id: int
    conversation: str
    session: str
    sender: str | None
    shard: str
    lane: str
    attempts: int
    fence: int
    last_error: str | None
    enrolled_at: int
    history: str | None
    question: bytes | str
    next_cancelled: int | None
    settled_by: str | None

    def query(
        self,
        state: str,
        attempts: int,
        error: str | None,
        answer: Message | None = None,
        settled_at: int | None = None,
    ) -> QueryState:
        """Return the question as it stands after its lease."""
        return QueryState(
            message_id=self.message_id,
            conversation=self.conversation,
            session=self.session,
            state=state,
            shard=self.shard,
            attempts=attempts,
            last_error=error or self.last_error,
            answer=answer,
            enrolled_at=self.enrolled_at,
            settled_at=settled_at,
        )


class ReadyDelivery(NamedTuple):
    """A delivery that is to be claimed again, not before a time."""

    held: HeldDelivery
    attempts: int
    not_before: int
    error: str | None
    history: str | None = None  # None: as it was

    def settled(self) -> Settled:
        """Return what became of it."""
        query = self.held.query("ready", self.attempts, self.error)
        return Settled(message_id=self.held.message_id, state="ready", query=query)


class EndedDelivery(NamedTuple):
    """A delivery that ends with an answer: done, or dead."""

    held: HeldDelivery
    state: str
    error: str | None
    text: str
    metadata: str
    history: str | None = None  # None: as it was
    cancelled: bool = False

    @property
    def is_canary(self) -> bool:
        """Whether it is a canary, of which no audit line and no dead letter is kept."""
        return is_canary(self.held.lane)

    @property
    def is_dismissed(self) -> bool:
        """Whether it is no dead letter, though dead."""
        return self.cancelled or self.is_canary

    def message(self) -> MessageRow:
        """Return the answer as a message to the sender of the question."""
        held = self.held
        recipient = held.sender or other_session(held.session)
        return MessageRow(held.conversation, held.session, recipient, self.text, self.metadata)

    def audit_line(self, answer_id: int) -> AuditLine:
        """Return what the audit log says of it."""
        held = self.held
        facts: dict[str, object] = {
            "message_id": held.message_id, "answer_id": answer_id, "state": self.state,
            "shard": held.shard, "attempts": held.attempts,
        }  # fmt: skip
        action = "query_answered"
        if self.cancelled:
            action, facts["error"] = "query_cancelled", self.error
        return AuditLine(held.conversation, held.session, action, to_json(facts))

    def settled(self, answer_id: int, now: int) -> Settled:
        """Return what became of it."""
        held = self.held
        conversation, sender, recipient, text, metadata, _ = self.message()
        answer = Message(
            id=answer_id,
            conversation=conversation,
            sender=sender,
            recipient=recipient,
            text=text,
            metadata=metadata,
            timestamp="",
            read=False,
        )
        return Settled(
            message_id=held.message_id,
            state=self.state,
            answer_id=answer_id,
            query=held.query(self.state, held.attempts, self.error, answer, now),
        )
