"""The MCP server: what the protocol asks for, handed to tools, resources and prompts."""

import logging
from collections.abc import Callable
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
)

from autopoll import __version__
from autopoll.gateway import strict_json
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp import prompts, resources
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.mcp.tools import TOOLS, call_tool
from autopoll.gateway.usecases import CallerAccess, UseCases

Context = ServerRequestContext[Any, Any]
Page = PaginatedRequestParams | None

log = logging.getLogger(__name__)


def make_server(hub: Hub, access_of: Callable[[Any], CallerAccess]) -> Server[Any]:
    """Return the server over a hub; `access_of` returns the access of whoever sent a
    request, which over HTTP is starlette's, and over stdio None.

    The SDK's lower level, because what may be seen depends on the caller, and because it passes
    the arguments on as they came, to be checked against the very schemas that are listed.
    """

    # The SDK logs every request at INFO.
    logging.getLogger("mcp").setLevel(logging.WARNING)

    def begin(context: Context) -> Call:
        steps = 0

        async def report(text: str) -> None:
            nonlocal steps
            steps += 1  # progress without an end known beforehand must still grow
            await context.session.report_progress(steps, None, strict_json.text(text))

        listens = (context.meta or {}).get("progress_token") is not None
        return Call(access_of(context.request), report, listens=listens)

    async def list_tools(_context: Context, _page: Page) -> ListToolsResult:
        return ListToolsResult(tools=[tool.listed() for tool in TOOLS.values()])

    async def call(context: Context, given: CallToolRequestParams) -> CallToolResult:
        try:
            return await call_tool(begin(context), given.name, given.arguments or {})
        except Exception:
            # The boundary: a bug of ours must neither end the connection nor show its inside.
            log.exception("tool %.100r", given.name)
            text = f"this is a bug in autopoll\n  Its log says more: {hub.home.log}"
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)

    async def list_resources(context: Context, _page: Page) -> ListResourcesResult:
        return ListResourcesResult(resources=await resources.listed(begin(context)))

    async def list_templates(_context: Context, _page: Page) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult(resource_templates=[resources.TEMPLATE])

    async def read_resource(
        context: Context, given: ReadResourceRequestParams
    ) -> ReadResourceResult:
        return ReadResourceResult(contents=[await resources.read(begin(context), str(given.uri))])

    async def list_prompts(_context: Context, _page: Page) -> ListPromptsResult:
        return ListPromptsResult(prompts=[prompts.ASK])

    async def get_prompt(context: Context, given: GetPromptRequestParams) -> GetPromptResult:
        shards = await begin(context).use(UseCases.shards)
        return prompts.ask_a_shard(shards, given.name, given.arguments or {})

    return Server(
        "autopoll",
        version=__version__,
        title="autopoll",
        description="Warm AI agents that answer questions, and a bridge between agents.",
        instructions=prompts.INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
