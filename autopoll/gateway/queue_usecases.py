"""Use-cases of the queue: look at it, hold a shard, and take a question back.

All are the operator's but the last, which a session may do with questions of its conversation.
"""

import os

from autopoll.bridge.queue_records import Cancelled
from autopoll.client import cancelling
from autopoll.errors import AlreadySettled, NotFound
from autopoll.gateway.usecases import UseCases
from autopoll.ops import pausing, queue_view
from autopoll.ops.pausing import PausedShard, ResumedShard
from autopoll.ops.queue_view import QueueView


def queue(use: UseCases, shard: str | None, after: int, limit: int) -> QueueView:
    """Return what waits and what is under way, beyond a number."""
    use.require_operator()
    return queue_view.queue(
        use.client.home, use.client.bridge, shard=shard, after=after, limit=limit
    )


def cancel(use: UseCases, number: int) -> Cancelled:
    """Cancel a question that the caller sees; raise NotFound or AlreadySettled."""
    use.result(number)  # raises NotFound for what is not the caller's
    [done] = cancelling.cancel(use.client.home, use.client.bridge, [number], _who(use))
    if refused := cancelling.refusal(use.client.bridge, done):
        raise (NotFound if done.outcome in ("unknown", "unserved") else AlreadySettled)(*refused)
    return done


def pause(use: UseCases, shard: str, reason: str, seconds: float | None) -> PausedShard:
    """Keep a shard of this home from answering; raise NotFound."""
    use.require_operator()
    client = use.client
    return pausing.pause(client.home, client.config, shard, _who(use), reason, seconds)


def resume(use: UseCases, shard: str) -> ResumedShard:
    """End the pause of a shard; raise NotFound."""
    use.require_operator()
    return pausing.resume(use.client.home, use.client.config, shard, _who(use))


def _who(use: UseCases) -> str:
    """Return how the caller is named to others; never with a token."""
    if use.caller.is_operator:
        return f"the operator by the gateway@{os.uname().nodename}"
    return f"session {use.caller.session} of {use.caller.conversation}"
