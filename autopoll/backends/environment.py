"""What a backend's child sees of our environment: an allow-list, so that nothing strange leaks in.

A worker may itself have been started from inside an AI agent. Variables by which such an agent
knows its own children make a nested one exit at once, or attach to the wrong session.
"""

import re
from collections.abc import Iterable, Mapping

from autopoll.errors import ConfigError

_ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|SSL_CERT_(?:FILE|DIR)"
    r"|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy"
    r"|AUTOPOLL_(?:SUPERVISED|INSTANCE)"  # the marks by which orphans are found
)
_NESTING = re.compile(
    r"CLAUDECODE|CLAUDE_CODE_(?:ENTRYPOINT|SESSION_ID|CHILD_\w+|MESSAGING_\w+)"
    r"|CLAUDE_PID|CLAUDE_EFFORT|AI_AGENT|TRACEPARENT"
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
