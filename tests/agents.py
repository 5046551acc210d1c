"""Agents at the front doors: the official MCP client, as the programs of agents use it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx2
from commands import for_mcp
from jsonschema import Draft202012Validator
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult
from place import Place

Door = Callable[[], contextlib.AbstractAsyncContextManager["Agent"]]


class Agent:
    """One connected client; every result is held against the schema that was listed for it."""

    def __init__(self, client: Client, schemas: dict[str, Any]) -> None:
        self.client = client
        self.told: list[str] = []
        self._schemas = schemas

    async def call(self, tool: str, /, **arguments: Any) -> CallToolResult:
        """Call a tool and return what came, a failure too; what it tells goes to `told`."""

        async def tell(_progress: float, _total: float | None, text: str | None) -> None:
            self.told.append(text or "")

        result = await self.client.call_tool(tool, arguments, progress_callback=tell)
        if result.structured_content is not None:
            Draft202012Validator(self._schemas[tool]).validate(result.structured_content)
        else:
            assert result.is_error, f"{tool} returns nothing structured"
        return result

    async def get(self, tool: str, /, **arguments: Any) -> Any:
        """Call a tool that must succeed and return its structured result."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool that must fail and return what it says."""
        result = await self.call(tool, **arguments)
        assert result.is_error, result.structured_content
        return text_of(result)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


def text_of(result: CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


@contextlib.asynccontextmanager
async def at_stdio(
    place: Place, mode: str = "auto", command: list[str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Agent]:
    """Start `autopoll mcp` as an agent's program does, and be its client."""
    mcp = [*place.command, "--home", str(place.root), "mcp"]
    program, *arguments = command or for_mcp(mcp, place.environ)
    server = StdioServerParameters(
        command=program, args=arguments, env=place.environ, cwd=cwd or place.root
    )
    with (place.root / "mcp.stderr").open("a") as log:
        async with Client(stdio_client(server, log), mode=mode) as client:
            yield await _agent(client)


@contextlib.asynccontextmanager
async def at_gateway(
    url: str, token: str, mode: str = "auto", **options: Any
) -> AsyncIterator[Agent]:
    """Be a client of a gateway, with a token of it."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode, **options) as client:
            yield await _agent(client)


async def _agent(client: Client) -> Agent:
    listed = await client.list_tools()
    return Agent(client, {tool.name: tool.output_schema for tool in listed.tools})


class Company:
    """Agents that stay connected for a whole module, in a loop of their own, by their doors."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._agents: dict[str, tuple[Agent, asyncio.Event, Future[None]]] = {}

    def agent(self, name: str, door: Door) -> Agent:
        """Return the agent at a door, which is let in at the first time."""
        if name not in self._agents:
            come: Future[Agent] = Future()
            leave = asyncio.Event()

            async def stay() -> None:
                try:
                    async with door() as agent:
                        come.set_result(agent)
                        await leave.wait()
                except BaseException as error:
                    if not come.done():
                        come.set_exception(error)
                    raise

            staying = asyncio.run_coroutine_threadsafe(stay(), self._loop)
            self._agents[name] = come.result(120), leave, staying
        agent = self._agents[name][0]
        agent.told.clear()
        return agent

    def play(self, story: Awaitable[Any], seconds: float = 60.0) -> Any:
        """Run what an agent of the company does, or fail."""

        async def main() -> Any:
            async with asyncio.timeout(seconds):
                return await story

        return asyncio.run_coroutine_threadsafe(main(), self._loop).result(seconds + 5)

    def close(self) -> None:
        for _, leave, staying in self._agents.values():
            self._loop.call_soon_threadsafe(leave.set)
            staying.result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


def play(story: Callable[[], Awaitable[Any]], seconds: float = 60.0) -> Any:
    """Run a story to its end, or fail."""

    async def main() -> Any:
        async with asyncio.timeout(seconds):
            return await story()

    return asyncio.run(main())


async def eventually(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Return the condition's first true value, letting the loop run meanwhile."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.01)
    assert value, what
    return value
