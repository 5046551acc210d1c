"""How a question stands, in words; the same at every front door."""

from autopoll.bridge.records import QueryState


def words(state: QueryState, paused: str | None, obstacle: str = "") -> str:
    """Return one line for whoever waits.

    `paused` says why the shard answers nothing on purpose for now, `obstacle` what else is in its
    way.
    """
    who = f"shard {state.shard}" if state.shard else "the shard"
    again = f", attempt {state.attempts}" if state.attempts > 1 else ""
    if obstacle:
        return f"question {state.message_id} is kept: {obstacle}"
    match state.state:
        case "leased":
            return f"{who} is working on question {state.message_id}{again}"
        case _ if paused:
            return f"question {state.message_id} is kept: {who} is paused, {paused}"
        case "ready" if state.last_error:
            return f"question {state.message_id} will be tried again: {state.last_error}"
        case _:
            return f"question {state.message_id} waits for {who}"
