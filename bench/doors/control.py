"""The doors' libraries with nothing behind them: REST and MCP that answer at once what was asked.

    python -m bench.doors.control

Prints the port on which it listens, and serves until it is killed.
"""

import asyncio
import json
import socket
from typing import Any

import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from autopoll.gateway.mcp.tools import TOOLS

IDLE_S = 30  # as in the gateway: a door's turn comes again after some seconds
Context = ServerRequestContext[Any, Any]
# As the product lists it, for a client checks each answer against the schema.
ASK = TOOLS["ask"].listed()


async def list_tools(_context: Context, _page: PaginatedRequestParams | None) -> ListToolsResult:
    return ListToolsResult(tools=[ASK])


async def call_tool(context: Context, given: CallToolRequestParams) -> CallToolResult:
    await context.session.report_progress(1, None, "stored")
    text = answer((given.arguments or {})["question"])
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=json.loads(text)
    )


def answer(question: str) -> str:
    """Return what the product answers, as JSON."""
    fields = {"status": "answered", "answer": question, "sources": [], "shard": "main"}
    return json.dumps({"id": 1, **fields, "attempts": 1, "latency_ms": 1})


async def main() -> None:
    tools = Server(
        "control", on_list_tools=list_tools, on_call_tool=call_tool,
        get_tool_input_schema=lambda _name: ASK.input_schema,
    )  # fmt: skip
    manager = StreamableHTTPSessionManager(tools, stateless=True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/mcp":
            await manager.handle_request(scope, receive, send)
            return
        request = Request(scope, receive)
        text = answer((await request.json())["question"])
        await Response(text, media_type="application/json")(scope, receive, send)

    # As the gateway's: asyncio turns Nagle's delay off only where the protocol is named.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="off", log_config=None, timeout_keep_alive=IDLE_S
    )
    async with manager.run():
        print(listener.getsockname()[1], flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())
