"""What a try has cost, told by a service in numbers that may be missing or absurd; pure."""

from typing import Any

from autopoll.request import Usage

_MOST = 10**9  # of tokens that a Usage can hold


def spent(
    *, prompt: Any = None, cached: Any = None, output: Any = None, dollars: Any = None
) -> Usage:
    """Return a usage; `prompt` is all input, with what was read from a cache among it."""
    read = count(cached)
    told = _number(dollars)
    cost = told if told is not None and 0 <= told <= 10**6 else None
    return Usage(
        input_tokens=max(0, count(prompt) - read),
        cached_tokens=read,
        output_tokens=count(output),
        cost_usd=None if cost is None else float(cost),
    )


def count(value: Any) -> int:
    """Return a number of tokens, though it may be told in words, or be absurd."""
    told = _number(value)
    return int(min(max(told, 0), _MOST)) if told is not None and told == told else 0


def _number(value: Any) -> float | None:
    """Return a number, though it may be told in words; nan is one."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) else None
