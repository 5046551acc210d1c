"""subscriptions/listen: of the revision 2026-07-28, a request whose answer is the notifications."""

from contextlib import aclosing
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    ResourceUpdatedNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenResult,
)

from autopoll.gateway.mcp import resources
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.mcp.subscriber import Subscriber


async def listen(
    context: ServerRequestContext[Any, Any], call: Call, subscriber: Subscriber, uris: list[str]
) -> SubscriptionsListenResult:
    """Notify a client of new messages in transcripts until it leaves, or the process ends.

    The library's own handler takes whatever is asked for and asks nobody whether it may be seen.
    Raises MCPError for a transcript that the caller may not read, before anything is sent.
    """
    meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}
    try:
        for uri in uris:
            await subscriber.subscribe(await resources.find(call, uri))
        taken = SubscriptionFilter(resource_subscriptions=uris or None)
        params = SubscriptionsAcknowledgedNotificationParams(notifications=taken, _meta=meta)
        await context.session.send_notification(
            SubscriptionsAcknowledgedNotification(params=params), context.request_id
        )
        async with aclosing(subscriber.notifications(call.access)) as notifications:
            async for each in notifications:
                if isinstance(each, ResourceUpdatedNotification):
                    each.params.meta = meta
                    await context.session.send_notification(each, context.request_id)
    finally:
        subscriber.close()
    return SubscriptionsListenResult(_meta=meta)
