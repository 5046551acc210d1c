"""The cost of a try, from a service's numbers, which may be missing or absurd; pure."""

from typing import Any

from autopoll.request import Usage

_MOST = 10**9  # of tokens that a Usage can hold


def spent(
    *, prompt: Any = None, cached: Any = None, output: Any = None, dollars: Any = None
) -> Usage:
    """Return a usage; `prompt` is all input, with what was read from a cache among it."""
    read = count(cached)
    amount = _number(dollars)
    cost = amount if amount is not None and 0 <= amount <= 10**6 else None
    return Usage(
        input_tokens=max(0, count(prompt) - read),
        cached_tokens=read,
        output_tokens=count(output),
        cost_usd=None if cost is None else float(cost),
    )


def count(value: Any) -> int:
    """Return a number of tokens, also of a string or an absurd value."""
    number = _number(value)
    return int(min(max(number, 0), _MOST)) if number is not None and number == number else 0


def _number(value: Any) -> float | None:
    """Return a number, also of a string; nan is one."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) else None
