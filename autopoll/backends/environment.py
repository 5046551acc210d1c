"""What workers and a backend's child see of our environment: allow-lists, so that nothing leaks in.

autopoll may itself have been started from inside an AI agent. Variables by which such an agent
knows its own children make a nested one exit at once, or attach to the wrong session.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from autopoll.errors import ConfigError

_ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|SSL_CERT_(?:FILE|DIR)"
    r"|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy"
    r"|AUTOPOLL_(?:SUPERVISED|INSTANCE)"  # the marks by which orphans are found
)
# What besides may stand in the environment of supervisord and of all that it starts.
_WORKERS = re.compile(
    r"ANTHROPIC_\w+|OPENAI_\w+|CLAUDE_CONFIG_DIR|CLAUDE_CODE_OAUTH_TOKEN"
    r"|AUTOPOLL_(?!TOKEN)\w+"  # a token is of one session, and no role needs it
    r"|PYTHON\w*|VIRTUAL_ENV|LD_LIBRARY_PATH|XDG_\w+"
)
# By which the Claude Code CLI finds its account and its service.
_CLAUDE = re.compile(r"ANTHROPIC_\w+|CLAUDE_CONFIG_DIR|CLAUDE_CODE_OAUTH_TOKEN")
_LIBPQ = re.compile(r"PG[A-Z]+|PGCONNECT_TIMEOUT")
_NESTING = re.compile(
    r"CLAUDECODE|CLAUDE_CODE_(?:ENTRYPOINT|SESSION_ID|CHILD_\w+|MESSAGING_\w+|SSE_PORT|SDK_\w+)"
    r"|CLAUDE_AGENT_SDK_\w+|CLAUDE_PID|CLAUDE_EFFORT|AI_AGENT|TRACEPARENT|TRACESTATE"
)


def child_environment(
    environ: Mapping[str, str], shard: str, extra: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables a child may have: the allowed ones and the `extra` names that are set.

    Raises ConfigError for an extra name that would make the child take itself for a nested agent.
    """
    named = set(extra)
    for name in sorted(named):
        if _NESTING.fullmatch(name):
            raise ConfigError(
                f"shards.{shard}.options.env: {name} may not be passed on",
                "It makes a program believe that it runs inside another agent; take it out.",
            )
    return {
        name: value for name, value in environ.items() if name in named or _ALLOWED.fullmatch(name)
    }


def claude_environment(
    environ: Mapping[str, str], shard: str, extra: Iterable[str] = ()
) -> dict[str, str]:
    """Return what the Claude Code CLI may have: as `child_environment`, and how it logs in."""
    own = [name for name in environ if _CLAUDE.fullmatch(name)]
    return child_environment(environ, shard, [*extra, *own])


def worker_environment(
    environ: Mapping[str, str], options: Iterable[Mapping[str, Any]] = ()
) -> dict[str, str]:
    """Return the variables supervisord may have, and by it every role.

    Those are what a child may have, what the known services are reached by, and what the shards'
    `options` name in `env` and `key_env`.
    """
    named = {name for table in options for name in _named(table)}
    return {
        name: value
        for name, value in environ.items()
        if not _NESTING.fullmatch(name)
        and (name in named or _ALLOWED.fullmatch(name) or _WORKERS.fullmatch(name))
    }


def bridge_variables(environ: Mapping[str, str]) -> set[str]:
    """Return the names of what libpq reads, by which poller and gateway reach a server."""
    return {name for name in environ if _LIBPQ.fullmatch(name)}


def forget_bridge(environ: MutableMapping[str, str], options: Mapping[str, Any]) -> None:
    """Remove them in a worker, which has the environment of supervisord but no business there.

    What the shard's `options` name is kept.
    """
    for name in bridge_variables(environ) - {*_named(options)}:
        del environ[name]


def _named(options: Mapping[str, Any]) -> Iterator[str]:
    match options.get("env"):
        case list() | tuple() as names:
            yield from (name for name in names if isinstance(name, str))
    match options.get("key_env"):
        case str() as name:
            yield name
