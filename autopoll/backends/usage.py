"""What a try has cost, told by a service in numbers that may be missing or absurd; pure."""

from typing import Any

from autopoll.request import Usage

_MOST = 10**9  # of tokens that a Usage can hold


def spent(
    *, prompt: Any = None, cached: Any = None, output: Any = None, dollars: Any = None
) -> Usage:
    """Return a usage; `prompt` is all input, with what was read from a cache among it."""
    read = _count(cached)
    cost = dollars if isinstance(dollars, int | float) and 0 <= dollars <= 10**6 else None
    return Usage(
        input_tokens=max(0, _count(prompt) - read),
        cached_tokens=read,
        output_tokens=_count(output),
        cost_usd=None if cost is None else float(cost),
    )


def _count(value: Any) -> int:
    return min(max(value, 0), _MOST) if isinstance(value, int) else 0
