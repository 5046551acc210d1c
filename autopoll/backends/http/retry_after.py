"""How long to wait for a service, read from the headers of a refusal; pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RESET = re.compile(r"(?:anthropic|x)-ratelimit-(?:(.+)-reset|reset(?:-(.+))?)")
_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)(?: at (\d\d:\d\d) UTC)?")
_EPOCH = 1e9  # a number of more seconds is a moment and not a span, …
_EPOCH_MS = 1e11  # … and a still larger one is in milliseconds


def wait_ms(headers: Mapping[str, str], now: datetime) -> int | None:
    """Return how long to wait from now on, None when the headers do not say.

    `retry-after` (seconds or a date) comes before what the vendors have of their own: of the
    limits that are used up, the last one to be reset; `headers` have names in lower case.
    """
    exact = _number(headers.get("retry-after-ms", ""))
    if exact is not None:
        return round(exact)
    after = headers.get("retry-after", "")
    if after:
        return _from_now(after, now)
    resets = [
        wait
        for name, value in headers.items()
        if (limit := _RESET.fullmatch(name)) and _is_used_up(headers, name, limit[1] or limit[2])
        if (wait := _from_now(value, now)) is not None
    ]
    return max(resets, default=None)


def regained_ms(text: str, now: datetime) -> int | None:
    """Return how long until the moment that the text of a used-up budget names."""
    found = _REGAIN.search(text)
    if not found:
        return None
    return _from_now(f"{found[1]}T{found[2] or '00:00'}:00+00:00", now)


def _is_used_up(headers: Mapping[str, str], name: str, limit: str | None) -> bool:
    vendor = name.partition("-ratelimit-")[0] + "-ratelimit"
    of = f"-{limit}" if limit else ""
    remaining = [headers.get(f"{vendor}{each}") for each in (f"{of}-remaining", f"-remaining{of}")]
    rejected = headers.get(f"{vendor}{of}-status") == "rejected"
    return rejected or any(each is not None and _number(each) == 0 for each in remaining)


def _from_now(value: str, now: datetime) -> int | None:
    """Return the milliseconds until a moment or over a span, in any of the forms in use."""
    value = value.strip()
    number = _number(value)
    if number is not None:
        seconds = number / 1000 if number > _EPOCH_MS else number
        return max(0, round((seconds - now.timestamp() if seconds > _EPOCH else seconds) * 1000))
    if parts := list(_spans(value)):
        return round(sum(parts))
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(value)
        except (ValueError, OverflowError):
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, round((moment - now).total_seconds() * 1000))
    return None


def _spans(value: str) -> Iterator[float]:
    """Yield the parts of a span such as 1m30.5s; nothing when it is none."""
    if _PART.sub("", value) == "":
        for number, unit in _PART.findall(value):
            yield float(number) * _UNITS[unit]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e14 else None
