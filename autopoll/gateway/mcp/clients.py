"""The programs of agents, and how each is told of a server: in which file, and in what form.

Looked up in the documentation of Claude Code, Claude Desktop, Cursor and VS Code in November 2026.
A token never stands in what is written: it is named, and the program fetches it.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from autopoll.errors import UsageError

Scope = Literal["project", "user"]
Entry = dict[str, Any]


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One program: its files for a project and for a user (None: it has none to write to)."""

    title: str
    project: str | None
    user: str | None
    table: str = "mcpServers"
    bearer: str | None = None  # what stands for a token; None: it reaches no URL
    inputs: list[Entry] = []  # what it asks its user for, once
    typed: bool = False  # whether an entry names its transport
    next: str  # what a person does then


CLIENTS: Mapping[str, Client] = {
    "claude-code": Client(
        title="Claude Code",
        project=".mcp.json",
        user=None,  # ~/.claude.json is the program's own, and written by it all the time
        bearer="${AUTOPOLL_TOKEN}",
        typed=True,
        next="Start claude in this folder, allow the server, and look at it with /mcp.",
    ),
    "claude-desktop": Client(
        title="Claude Desktop",
        project=None,
        user="{config}/Claude/claude_desktop_config.json",
        next="Quit Claude Desktop and start it again.",
    ),
    "cursor": Client(
        title="Cursor",
        project=".cursor/mcp.json",
        user="{home}/.cursor/mcp.json",
        bearer="${env:AUTOPOLL_TOKEN}",
        next="Switch the server on in Cursor's settings.",
    ),
    "vscode": Client(
        title="VS Code",
        project=".vscode/mcp.json",
        user="{config}/Code/User/mcp.json",
        table="servers",
        # It fills in no environment variable among headers (microsoft/vscode#336232), but asks for
        # what it then keeps in the system's store of secrets.
        bearer="${input:autopoll-token}",
        inputs=[
            {
                "type": "promptString",
                "id": "autopoll-token",
                "description": "A token of autopoll's gateway",
                "password": True,
            }
        ],
        typed=True,
        next="Start the server by the link above its entry, or with MCP: List Servers.",
    ),
}


def place(client: Client, scope: Scope | None, here: Path, environ: Mapping[str, str]) -> Path:
    """Return the file to write to; raise UsageError where the program has none for the scope."""
    if scope is None:
        scope = "project" if client.project else "user"
    if scope == "project":
        if client.project is None:
            raise UsageError(
                f"{client.title} knows no settings of a project", "Leave --scope out, or say user."
            )
        return here / client.project
    if client.user is None:
        raise UsageError(
            f"{client.title} writes its settings of a user itself",
            "Use --print: it shows the command that has it add the server.",
        )
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Path(client.user.format(home=home, config=config))


def stdio_entry(client: Client, program: list[str], home: Path) -> Entry:
    """Return the entry of a server that the program starts itself."""
    command, *arguments = program
    entry = {"command": command, "args": [*arguments, "mcp", "--home", str(home)]}
    return {"type": "stdio"} | entry if client.typed else entry


def http_entry(client: Client, url: str, token_file: Path | None) -> Entry:
    """Return the entry of a server behind a gateway; raise UsageError where that is impossible."""
    if client.bearer is None:
        raise UsageError(
            f"{client.title} reaches no server at a URL by its file",
            "Leave --http out: it starts the server itself.",
        )
    entry: Entry = {"type": "http"} if client.typed else {}
    entry["url"] = url
    if token_file is None:
        entry["headers"] = {"Authorization": f"Bearer {client.bearer}"}
    elif client is CLIENTS["claude-code"]:
        # A command of the shell whose output are the headers; run anew with each connection.
        quoted = shlex.quote(str(token_file))
        entry["headersHelper"] = f'printf \'{{"Authorization":"Bearer %s"}}\' "$(cat {quoted})"'
    else:
        raise UsageError(
            f"{client.title} reads no token from a file",
            "Leave --token-file out; what stands for the token then is told.",
        )
    return entry


def add_command(name: str, entry: Entry, scope: Scope) -> str:
    """Return the command that has Claude Code add a server by itself."""
    words = [
        "claude",
        "mcp",
        "add-json",
        "--scope",
        scope,
        name,
        msgspec.json.encode(entry).decode(),
    ]
    return shlex.join(words)
