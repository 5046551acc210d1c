"""Tools that agents of multi-agent bridges know: two sessions of a conversation write each other.

Names and arguments are those of the existing bridges; `conversation_id`, `session_id` and `token`
may be left out where the caller has proven who it is in another way.
"""

import json
from typing import Annotated, Any, Literal

import msgspec

from autopoll.bridge.records import Message
from autopoll.errors import AutopollError, BridgeError
from autopoll.gateway.mcp.call import Call, SpeakerArguments, ToolReply, claim
from autopoll.gateway.usecases import UseCases

Role = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
SHOWN = 20_000  # characters of a message that is only looked at; the resource has more


class CreateConversation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of create_conversation."""

    my_role: Annotated[Role, msgspec.Meta(description="Who you are: session a.")]
    partner_role: Annotated[Role, msgspec.Meta(description="Who your partner is: session b.")]
    shard: (
        Annotated[
            str, msgspec.Meta(max_length=32, description="Let this shard answer as your partner.")
        ]
        | None
    ) = None


class NewTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A new conversation and the tokens of its sessions, shown this once."""

    conversation_id: str
    session_a_token: str
    session_b_token: str
    expires_at: str | None


class SendToPartner(SpeakerArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of send_to_partner."""

    message: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000_000)]
    action_type: Literal["question", "info", "proposal", "blocked", "complete"] = "info"
    files_involved: Annotated[list[Path], msgspec.Meta(max_length=20)] = msgspec.field(
        default_factory=list
    )


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is stored; `redacted` tells whether secrets were taken out of it."""

    status: Literal["sent"]
    id: int
    conversation_id: str
    redacted: bool


class CheckMessages(SpeakerArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of check_messages."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100, description="At most so many.")] = 50


class RecentMessages(SpeakerArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of recent_messages."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=100, description="The newest so many.")] = 20
    after: Annotated[
        int, msgspec.Meta(ge=0, le=2**63 - 1, description="Only those beyond this id.")
    ] = 0


class ShownMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message; `cut` tells how many characters were left out at its end."""

    id: int
    conversation_id: str
    sender: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    message: str
    metadata: dict[str, Any]
    timestamp: str
    read: bool
    cut: int = 0


class ShownMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Messages, oldest first."""

    messages: list[ShownMessage]


class UpdateMyStatus(SpeakerArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of update_my_status."""

    status: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=100,
            description="What you are doing: working, waiting, blocked, complete, …",
            examples=["working", "waiting", "blocked", "complete"],
        ),
    ]


class CheckPartnerStatus(SpeakerArguments, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of check_partner_status."""


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a session last said of itself; alive is who gave a sign of life within 120 s."""

    conversation_id: str
    session_id: str
    status: str
    last_heartbeat: str | None
    age_seconds: float | None
    alive: bool


async def create_conversation(call: Call, given: CreateConversation) -> ToolReply:
    """Begin a conversation between you (session a) and a partner (session b). Returns a token for
    each session, this once: keep yours, and hand the other to your partner. With `shard`, that
    shard answers whatever you send.
    """

    def create(use: UseCases) -> NewTokens:
        tokens = use.create_conversation(given.my_role, given.partner_role, given.shard)
        return NewTokens(
            conversation_id=tokens.conversation,
            session_a_token=tokens.a,
            session_b_token=tokens.b,
            expires_at=use.conversation(tokens.conversation).expires_at,
        )

    return ToolReply(await call.use(create), "Keep the tokens now; they are not shown again.")


async def send_to_partner(call: Call, given: SendToPartner) -> ToolReply:
    """Send a message to your partner in a conversation. It is stored at once; fetch what comes back
    with check_messages. Secrets in it are redacted.
    """
    metadata = json.dumps(
        {"action_type": given.action_type, "files_involved": given.files_involved}
    )

    def send(use: UseCases) -> StoredMessage:
        conversation, session, token = claim(use, given)
        number = use.send(conversation, session, token, text=given.message, metadata=metadata)
        try:
            stored = use.client.bridge.messages.message(number)
        except BridgeError as error:
            what = f"{error.what}; message {number} is stored"
            raise AutopollError(what, "Do not send it again.") from error
        return StoredMessage(
            status="sent",
            id=number,
            conversation_id=conversation,
            redacted=stored.text != given.message,
        )

    return ToolReply(await call.use(send))


async def check_messages(call: Call, given: CheckMessages) -> ToolReply:
    """Take the messages sent to you that you have not taken yet, oldest first; each is given once.
    recent_messages looks at messages without taking them.
    """

    def take(use: UseCases) -> ShownMessages:
        taken = use.inbox(*claim(use, given), limit=given.limit)
        return ShownMessages(messages=[_shown(each) for each in taken])

    return ToolReply(await call.use(take))


async def recent_messages(call: Call, given: RecentMessages) -> ToolReply:
    """Look at the newest messages, oldest first, without taking any: of one conversation, or of
    all that you may see. Long ones are cut.
    """

    def look(use: UseCases) -> ShownMessages:
        conversation = given.conversation_id
        if given.token is not None or given.session_id is not None:
            conversation, _ = use.speaker(*claim(use, given))
        found = use.messages(conversation, after=given.after, limit=given.limit)
        return ShownMessages(messages=[_shown(each, SHOWN) for each in found])

    return ToolReply(await call.use(look))


async def update_my_status(call: Call, given: UpdateMyStatus) -> ToolReply:
    """Let your partner see what you are doing, and that you are alive. Say it again at least every
    two minutes: after that you count as gone.
    """

    def update(use: UseCases) -> SessionStatus:
        claimed = claim(use, given)
        use.set_status(*claimed, status=given.status)
        return _status(use, *use.speaker(*claimed))

    return ToolReply(await call.use(update))


async def check_partner_status(call: Call, given: CheckPartnerStatus) -> ToolReply:
    """See what your partner last said of itself and whether it is alive. A partner that is a
    shard is alive while autopoll runs.
    """

    def check(use: UseCases) -> SessionStatus:
        conversation, session = use.speaker(*claim(use, given))
        return _status(use, conversation, "b" if session == "a" else "a")

    return ToolReply(await call.use(check))


def _status(use: UseCases, conversation: str, session: str) -> SessionStatus:
    found = use.presence(conversation, session)
    return SessionStatus(
        conversation_id=conversation,
        session_id=session,
        status=found.status,
        last_heartbeat=found.at,
        age_seconds=found.age_s,
        alive=found.alive,
    )


def _shown(message: Message, longest: int | None = None) -> ShownMessage:
    text = message.text if longest is None else message.text[:longest]
    return ShownMessage(
        id=message.id,
        conversation_id=message.conversation,
        sender=message.sender,
        recipient=message.recipient,
        message=text,
        metadata=_object(message.metadata),
        timestamp=message.timestamp,
        read=message.read,
        cut=len(message.text) - len(text),
    )


def _object(metadata: str | None) -> dict[str, Any]:
    """Return metadata as an object; what a foreign program left that is none says nothing."""
    try:
        value = json.loads(metadata or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
