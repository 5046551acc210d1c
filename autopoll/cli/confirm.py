"""Asking a person before something is done that cannot be taken back."""

import sys

from autopoll.cli.output import is_terminal, say
from autopoll.errors import AutopollError, UsageError


def require_yes(deed: str) -> None:
    """Ask on the terminal whether to do `deed`; raise AutopollError unless the answer is yes.

    Raises UsageError where there is no terminal to ask on.
    """
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"this would {deed}, and there is no terminal to ask on", "Give --yes.")
    say(f"{deed[0].upper()}{deed[1:]}? [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AutopollError("nothing was changed")
