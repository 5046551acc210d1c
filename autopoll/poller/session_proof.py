"""Whether the token of an asker proves the session that it asks as."""

from autopoll.bridge.protocols import ConversationStore
from autopoll.errors import AccessDenied, AutopollError, NotFound


def why_unproven(
    conversations: ConversationStore, conversation: str, session: str, token: str
) -> AutopollError | None:
    """Return why a token does not prove a session; raises BridgeError."""
    try:
        proven = conversations.authenticate(conversation, token)
    except (AccessDenied, NotFound) as error:
        return error
    if proven != session:
        return AccessDenied(f"the token proves session {proven} of {conversation}, not {session}")
    return None
