"""The MCP server: what the protocol asks for, handed to tools, resources, prompts and the rest."""

import logging
from typing import Any, Protocol

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ServerCapabilities,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from autopoll import __version__
from autopoll.gateway import strict_json
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp import completion, prompts, resources
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.mcp.listen_stream import listen
from autopoll.gateway.mcp.log_relay import CALLER, LEVELS, LogRelay
from autopoll.gateway.mcp.request_log import logged
from autopoll.gateway.mcp.subscriber import Subscriber
from autopoll.gateway.mcp.tools import TOOLS, call_tool
from autopoll.gateway.mcp.transcript_watch import TranscriptWatch
from autopoll.gateway.usecases import CallerAccess, UseCases

Context = ServerRequestContext[Any, Any]
Page = PaginatedRequestParams | None


class McpTransport(Protocol):
    """What differs between stdio and HTTP."""

    hub: Hub
    watch: TranscriptWatch
    relay: LogRelay

    def access(self, context: Context) -> CallerAccess:
        """Return the access of whoever sent a request."""
        ...

    def subscriber(self, context: Context) -> Subscriber:
        """Return what is kept of the client that sent it; raise MCPError when nothing can be."""
        ...


class McpServer(Server[Any]):
    """The server over a transport.

    The SDK's lower level, because what may be seen depends on the caller, and because it passes
    the arguments on as they came, to be checked against the very schemas that are listed.
    """

    def __init__(self, transport: McpTransport) -> None:
        # The SDK logs every request at INFO.
        logging.getLogger("mcp").setLevel(logging.WARNING)
        # Made once: the library looks into the schema of the tool with each call over HTTP.
        self._listed = {name: tool.listed() for name, tool in TOOLS.items()}
        super().__init__(
            "autopoll",
            version=__version__,
            title="autopoll",
            description="Warm AI agents that answer questions, and a bridge between agents.",
            instructions=prompts.INSTRUCTIONS,
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listen,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )
        # As an argument it would be warned of: the revision 2026-07-28 has it no more.
        self.add_request_handler("logging/setLevel", SetLevelRequestParams, self._set_level)
        self.middleware.append(logged)
        self._transport = transport

    def get_capabilities(self, *given: Any, **named: Any) -> ServerCapabilities:
        """Return what the server can; nothing notifies of changes of lists, so none is promised."""
        found = super().get_capabilities(*given, **named)
        for each in (found.tools, found.prompts, found.resources):
            if each:
                each.list_changed = False
        if named.get("protocol_version") in MODERN_PROTOCOL_VERSIONS:
            found.logging = None
        return found

    def _begin(self, context: Context) -> Call:
        steps = 0

        async def report(text: str) -> None:
            nonlocal steps
            steps += 1  # progress without an end known beforehand must still grow
            await context.session.report_progress(steps, None, strict_json.text(text))

        listens = (context.meta or {}).get("progress_token") is not None
        return Call(self._transport.access(context), report, listens=listens)

    # --- tools

    async def _list_tools(self, _context: Context, _page: Page) -> ListToolsResult:
        return ListToolsResult(tools=list(self._listed.values()))

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        listed = self._listed.get(name)
        return listed.input_schema if listed else None

    async def _call_tool(self, context: Context, given: CallToolRequestParams) -> CallToolResult:
        return await call_tool(self._begin(context), given.name, given.arguments or {})

    # --- resources

    async def _list_resources(self, context: Context, _page: Page) -> ListResourcesResult:
        return ListResourcesResult(resources=await resources.listed(self._begin(context)))

    async def _list_templates(self, _context: Context, _page: Page) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=[resources.TEMPLATE])

    async def _read_resource(
        self, context: Context, given: ReadResourceRequestParams
    ) -> ReadResourceResult:
        return ReadResourceResult(contents=[await resources.read(self._begin(context), given.uri)])

    async def _subscribe(self, context: Context, given: SubscribeRequestParams) -> EmptyResult:
        subscriber = self._transport.subscriber(context)
        await subscriber.subscribe(await resources.find(self._begin(context), given.uri))
        return EmptyResult()

    async def _unsubscribe(self, context: Context, given: UnsubscribeRequestParams) -> EmptyResult:
        subscriber = self._transport.subscriber(context)
        subscriber.unsubscribe(await resources.find(self._begin(context), given.uri))
        return EmptyResult()

    async def _listen(
        self, context: Context, given: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        subscriber = Subscriber(self._transport.watch)
        uris = given.notifications.resource_subscriptions or []
        return await listen(context, self._begin(context), subscriber, uris)

    # --- prompts

    async def _list_prompts(self, _context: Context, _page: Page) -> ListPromptsResult:
        return ListPromptsResult(prompts=[prompts.ASK])

    async def _get_prompt(self, context: Context, given: GetPromptRequestParams) -> GetPromptResult:
        shards = await self._begin(context).use(UseCases.shards)
        return prompts.ask_a_shard(shards, given.name, given.arguments or {})

    # --- and the rest

    async def _complete(self, context: Context, given: CompleteRequestParams) -> CompleteResult:
        found = await completion.complete(self._begin(context), given.ref, given.argument)
        return CompleteResult(completion=found)

    async def _set_level(self, context: Context, given: SetLevelRequestParams) -> EmptyResult:
        subscriber = self._transport.subscriber(context)
        self._transport.relay.set_level(subscriber, CALLER.get(), LEVELS[given.level])
        return EmptyResult()
