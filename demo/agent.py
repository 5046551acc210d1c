"""An agent's program, as far as MCP goes: the official client starts a server and calls a tool.

    python agent.py TOOL ARGUMENTS -- COMMAND...

prints what it was told on the way and the structured result, as one JSON object.
"""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters


async def call(tool: str, arguments: str, command: list[str]) -> dict[str, object]:
    """Start the server, call the tool, and return what came."""
    told: list[str] = []

    async def tell(_progress: float, _total: float | None, text: str | None) -> None:
        told.append(text or "")

    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    async with Client(server) as client:
        tools = [each.name for each in (await client.list_tools()).tools]
        result = await client.call_tool(tool, json.loads(arguments), progress_callback=tell)
    return {
        "tools": tools,
        "told": told,
        "failed": result.is_error,
        "result": result.structured_content,
    }


if __name__ == "__main__":
    _, name, given, _dashes, *program = sys.argv
    print(json.dumps(asyncio.run(call(name, given, program))))
