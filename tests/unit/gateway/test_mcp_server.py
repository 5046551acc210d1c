"""The MCP server over the protocol's library as clients over HTTP meet it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import msgspec
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from autopoll.gateway.mcp import mcp_server, tools
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.gateway.mcp.mcp_server import McpServer, McpTransport

MODES = ["auto", "legacy"]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What `say` takes, and gives."""

    text: str


async def say(_call: Call, given: Said) -> ToolReply:
    """Say it."""
    return ToolReply(given)


async def fail(_call: Call, given: Said) -> ToolReply:
    """Fail by a bug."""
    raise ZeroDivisionError(f"the inside of {given.text}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[McpServer]:
    found = {
        run.__name__: tools.Tool(run=run, takes=Said, gives=Said, title="?") for run in (say, fail)
    }
    monkeypatch.setattr(tools, "TOOLS", found)
    monkeypatch.setattr(mcp_server, "TOOLS", found)
    transport = SimpleNamespace(access=lambda _context: SimpleNamespace(hub=None, call=0, ask=0))
    yield McpServer(cast(McpTransport, transport))


async def at(server: McpServer, stack: AsyncExitStack, mode: str) -> Client:
    """Return a client over HTTP, with no socket in between."""
    manager = StreamableHTTPSessionManager(server, stateless=True)
    await stack.enter_async_context(manager.run())
    transport = httpx2.ASGITransport(app=manager.handle_request)
    http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport))
    made = Client(streamable_http_client("http://127.0.0.1/mcp", http_client=http), mode=mode)
    return await stack.enter_async_context(made)


@pytest.mark.parametrize("mode", MODES)
def test_a_bug_in_a_tool_is_an_error_of_the_protocol_that_shows_nothing_of_it(
    server: McpServer, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            client = await at(server, stack, mode)
            with pytest.raises(MCPError) as refused:
                await client.call_tool("fail", {"text": "it"})
            assert refused.value.error.code == INTERNAL_ERROR
            assert "bug in autopoll" in refused.value.error.message
            assert "inside" not in refused.value.error.message
            said = await client.call_tool("say", {"text": "and on"})
            assert said.structured_content == {"text": "and on"}

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    [logged] = [each for each in caplog.records if each.exc_info]
    assert logged.getMessage() == "tools/call fail"
    assert "the inside of it" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_a_call_of_a_tool_neither_lists_the_tools_nor_makes_their_schemas_again(
    server: McpServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out: list[str] = []

    async def note(context: Any, call_next: Any) -> Any:
        carried_out.append(context.method)
        return await call_next(context)

    server.middleware.append(note)
    made: list[Any] = []
    monkeypatch.setattr(tools, "schema", lambda kind: made.append(kind) or {"type": "object"})

    async def main() -> None:
        async with AsyncExitStack() as stack:
            client = await at(server, stack, mode)
            await client.list_tools()
            carried_out.clear()
            for _ in range(3):
                await client.call_tool("say", {"text": "again"})

    asyncio.run(main())
    assert carried_out == ["tools/call"] * 3
    assert made == []
