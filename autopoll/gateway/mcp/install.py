"""Adds a server to the programs of agents: to each by an entry in its own file of servers.

Looked up in the documentation of Claude Code, Claude Desktop, Cursor and VS Code in November 2026.
A token never stands in what is written: it is named, and the program fetches it. Everything else in
the file is left alone.
"""

import errno
import json
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from autopoll.errors import UsageError
from autopoll.home import files

Scope = Literal["project", "user"]
Entry = dict[str, Any]
Change = Literal["added", "replaced", "unchanged"]
LARGEST = 10 * 1024 * 1024
ORDINARY = 0o644  # a project's file is read by others, and there is no secret in it
BY_HAND = "Add the entry by hand; --print shows it."


class AgentProgram(msgspec.Struct, frozen=True, kw_only=True):
    """One program: its files for a project and for a user (None: it has none to write to)."""

    title: str
    project: str | None
    user: str | None
    table: str = "mcpServers"
    bearer: str | None = None  # what stands for a token; None: it reaches no URL
    inputs: list[Entry] = []  # what it asks its user for, once
    typed: bool = False  # whether an entry names its transport
    next: str  # what a person does then


PROGRAMS: Mapping[str, AgentProgram] = {
    "claude-code": AgentProgram(
        title="Claude Code",
        project=".mcp.json",
        user=None,  # ~/.claude.json is the program's own, and written by it all the time
        bearer="${AUTOPOLL_TOKEN}",
        typed=True,
        next="Start claude in this folder, allow the server, and look at it with /mcp.",
    ),
    "claude-desktop": AgentProgram(
        title="Claude Desktop",
        project=None,
        user="{config}/Claude/claude_desktop_config.json",
        next="Quit Claude Desktop and start it again.",
    ),
    "cursor": AgentProgram(
        title="Cursor",
        project=".cursor/mcp.json",
        user="{home}/.cursor/mcp.json",
        bearer="${env:AUTOPOLL_TOKEN}",
        next="Switch the server on in Cursor's settings.",
    ),
    "vscode": AgentProgram(
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


def place(
    program: AgentProgram, scope: Scope | None, here: Path, environ: Mapping[str, str]
) -> Path:
    """Return the file to write to; raise UsageError where the program has none for the scope."""
    if scope is None:
        scope = "project" if program.project else "user"
    if scope == "project":
        if program.project is None:
            raise UsageError(
                f"{program.title} knows no settings of a project", "Leave --scope out, or say user."
            )
        return here / program.project
    if program.user is None:
        raise UsageError(
            f"{program.title} writes its settings of a user itself",
            "Use --print: it shows the command that has it add the server.",
        )
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Path(program.user.format(home=home, config=config))


def stdio_entry(program: AgentProgram, words: list[str], home: Path) -> Entry:
    """Return the entry of a server that the program starts itself."""
    command, *arguments = words
    entry = {"command": command, "args": [*arguments, "mcp", "--home", str(home)]}
    return {"type": "stdio"} | entry if program.typed else entry


def http_entry(program: AgentProgram, url: str, token_file: Path | None) -> Entry:
    """Return the entry of a server behind a gateway; raise UsageError where that is impossible."""
    if program.bearer is None:
        raise UsageError(
            f"{program.title} reaches no server at a URL by its file",
            "Leave --http out: it starts the server itself.",
        )
    entry: Entry = {"type": "http"} if program.typed else {}
    entry["url"] = url
    if token_file is None:
        entry["headers"] = {"Authorization": f"Bearer {program.bearer}"}
    elif program is PROGRAMS["claude-code"]:
        # A command of the shell whose output are the headers; run again with each connection.
        quoted = shlex.quote(str(token_file))
        entry["headersHelper"] = f'printf \'{{"Authorization":"Bearer %s"}}\' "$(cat {quoted})"'
    else:
        raise UsageError(
            f"{program.title} reads no token from a file",
            "Leave --token-file out; --print shows what stands for the token then.",
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


def write(
    path: Path, program: AgentProgram, name: str, entry: Entry, inputs: list[Entry]
) -> Change:
    """Put an entry into a file, which is made if it is not there, whole or not at all.

    Raises UsageError, with the file as it was, for one that is a link, is not one JSON object, or
    cannot be written.
    """
    text, mode = _read(path)
    held = _parse(path, text)
    table = held.setdefault(program.table, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {program.table} is no object", BY_HAND)
    asked = held.setdefault("inputs", []) if inputs else []
    if not isinstance(asked, list):
        raise UsageError(f"{path}: inputs is no list", BY_HAND)
    missing = [each for each in inputs if each not in asked]
    if table.get(name) == entry and not missing:
        return "unchanged"
    change: Change = "replaced" if name in table else "added"
    table[name] = entry
    asked += missing
    new = json.dumps(held, indent=_indent(text), ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.put(path, new.encode("utf-8", "surrogatepass"), durable=True, mode=mode)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", BY_HAND) from error
    return change


def _read(path: Path) -> tuple[str, int]:
    """Return a file's text and mode; an empty text when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return "", ORDINARY
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{path} is a symbolic link", f"Point it out with its true path. {BY_HAND}"
            ) from error
        raise UsageError(f"{path} cannot be read: {error.strerror}", BY_HAND) from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a regular file", BY_HAND)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{path} is larger than {LARGEST} bytes", BY_HAND)
    try:
        return data.decode("utf-8-sig"), stat.S_IMODE(facts.st_mode)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})", BY_HAND) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    """Return the object that a file is; what could not be written back as it was is refused."""
    if not text.strip():
        return {}
    try:
        held = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not JSON that can be added to: {error}",
            f"Mend it (comments are not JSON either). {BY_HAND}",
        ) from error
    if not isinstance(held, dict):
        raise UsageError(f"{path} holds no JSON object", BY_HAND)
    return held


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _indent(text: str) -> int | str:
    """Return how the file is indented, by its first line that is."""
    for line in text.splitlines():
        space = line[: len(line) - len(line.lstrip())]
        if space and line.strip():
            return "\t" if space[0] == "\t" else len(space)
    return 2
