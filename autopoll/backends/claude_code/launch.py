"""The command line and the environment of the CLI: all that makes of it a plain answerer."""

from collections.abc import Mapping
from pathlib import Path

from autopoll.backends.claude_code.claude_options import ClaudeOptions
from autopoll.backends.claude_code.workspace import Workspace

# Longer than our own limits, so that ours come first and a stalled stream is reported as such.
_BEYOND = 2
_LEAST_IDLE_MS = 10_000  # the CLI takes no less

_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",  # it would change the cached beginning each time
    # One, not none: the message before a retry carries the reason and the time to wait.
    # The session is ended on that message, so there never is a second try.
    "CLAUDE_CODE_MAX_RETRIES": "1",
    # A stream that broke off would be asked for once more as a whole, unseen by us.
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
}


def command_line(program: Path, options: ClaudeOptions, workspace: Workspace) -> list[str]:
    """Return what is run: no secret in it, and no text that could be too long."""
    line = [
        str(program),
        *("--output-format", "stream-json", "--input-format", "stream-json", "--verbose"),
        "--include-partial-messages",
        # A file, because a long text fails: "argument list too long".
        *("--system-prompt-file", str(workspace.system_file)),
        *("--tools", ",".join(options.tools)),
        *("--permission-mode", "dontAsk"),
        *("--max-turns", str(options.turns)),
        "--no-session-persistence",
    ]
    if options.model:
        line.append(f"--model={options.model}")
    if options.tools:
        # A bare `Read` may read all of /etc; this one covers the folder it runs in.
        # It holds for all that reads.
        line += ["--allowed-tools", "Read(./**)"]
    if options.user_settings:
        line.append("--setting-sources=user")
    else:
        line += ["--setting-sources=", "--strict-mcp-config", "--disable-slash-commands"]
    return line


def environment(
    inherited: Mapping[str, str], options: ClaudeOptions, workspace: Workspace, key: str | None
) -> dict[str, str]:
    """Return the environment of the CLI, given what it may have of ours."""
    beyond = str(max(_LEAST_IDLE_MS, options.stall_timeout.ms * _BEYOND))
    found = {
        **inherited,
        **_QUIET,
        "API_TIMEOUT_MS": beyond,
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": beyond,
        "PWD": str(workspace.files),
        "TMPDIR": str(workspace.scratch),  # each run leaves a folder there
    }
    if options.base_url:
        found["ANTHROPIC_BASE_URL"] = options.base_url
    if options.max_tokens:
        found["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(options.max_tokens)
    if key is not None:
        # The one that was named, and no other login beside it.
        for other in ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
            found.pop(other, None)
        found["ANTHROPIC_API_KEY"] = key
    return found
