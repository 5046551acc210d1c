"""Turns what a service sends in place of an answer into a failure of the contract.

Services agree on little but the status. What they mean by it is in a type or a code, and where
there is none, in words that have been the same for years.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from autopoll.backends.contract import Permanent, Retriable, Unanswered, Unavailable
from autopoll.backends.http.retry_after import regained_ms, wait_ms
from autopoll.clock import utc_now

RECONNECT_MS = 5_000  # until a service that cannot be reached is tried again

# An error in mid-stream comes without a status, and with 200 in the library's error.
_STATUS_OF = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
    "server_is_overloaded": 529,
    "slow_down": 503,
    "overloaded": 529,  # TGI
    "unavailable": 503,  # Gemini
    "resource_exhausted": 429,
    "badrequesterror": 400,  # vLLM, SGLang
    "bad_request": 400,
    "internalservererror": 500,
    "internal_server_error": 500,
    "engine_overloaded_error": 529,  # Moonshot
}
_TOO_LONG = re.compile(
    r"prompt is too long|context[ _](?:length|window|size)|maximum context"
    r"|too many (?:input )?tokens|input is too (?:long|large)",
    re.I,
)
_USED_UP = re.compile(
    r"credit balance|insufficient[ _](?:quota|balance|credits?|funds)|exceeded your current quota"
    r"|usage limit|spend(?:ing)?[ _]limit|billing|payment required|hit your (?:\w+ )?limit",
    re.I,
)
_FILTERED = re.compile(r"content[ _](?:filter|policy|management)|safety (?:system|filter)", re.I)


class Refusal(NamedTuple):
    """What a service sent in place of an answer; `words` hold no key."""

    status: int | None
    kind: str  # type and code, as far as there are any
    words: str
    headers: Mapping[str, str] = {}


def failure(refusal: Refusal, now: datetime | None = None) -> Unanswered:
    """Return the failure that a refusal is."""
    now = now or utc_now()
    status, words = _status(refusal), refusal.words
    text = f"{refusal.kind} {words}"
    wait = wait_ms(refusal.headers, now)
    if status == 402 or (status in (None, 400, 403, 429) and _USED_UP.search(text)):
        return Unavailable(
            f"the service's quota is used up: {words}",
            "Add credit or raise the limit; its console shows both.",
            kind="quota",
            resume_after_ms=regained_ms(words, now) or wait,
        )
    if status in (401, 403):
        return Unavailable(
            f"the service does not accept the key: {words}",
            "Give another key, then: autopoll restart",
            kind="credentials",
        )
    if status == 413 or (status in (None, 400, 422, 500) and _TOO_LONG.search(text)):
        return Permanent(
            f"the prompt is too long for the model: {words}",
            "Lower `context_tokens` or `max_tokens`, name fewer files, or ask shorter.",
        )
    if status in (None, 400, 403, 422) and _FILTERED.search(text):
        return Permanent(f"the service refuses to answer this: {words}")
    match status:
        case 429:
            return Unavailable(
                f"the rate limit is reached: {words}", kind="rate-limit", resume_after_ms=wait
            )
        case 503 | 529:
            return Unavailable(
                f"the service is overloaded: {words}", kind="overloaded", resume_after_ms=wait
            )
        case 404:
            return Permanent(
                f"the service knows no such model or address: {words}",
                "Check `model` and `base_url`.",
            )
        case None | 408 | 409 | 425:
            return Retriable(f"the service failed: {words}", retry_after_ms=wait)
    if status < 300 or status >= 500:
        return Retriable(f"the service failed with {status}: {words}", retry_after_ms=wait)
    if status < 400:
        return Permanent(f"the service redirects ({status})", "Give the final address: `base_url`.")
    return Permanent(f"the service refuses the request with {status}: {words}")


def unreachable(words: str) -> Unavailable:
    """Return the failure of a service to which there is no way just now."""
    return Unavailable(
        f"the service cannot be reached: {words}",
        "Check the network, `base_url` and the proxy settings.",
        kind="overloaded",
        resume_after_ms=RECONNECT_MS,
    )


def _status(refusal: Refusal) -> int | None:
    if refusal.status is not None and refusal.status >= 300:
        return refusal.status
    for word in refusal.kind.lower().split():
        if word in _STATUS_OF:
            return _STATUS_OF[word]
        if word.isdecimal() and 400 <= int(word) < 600:
            return int(word)
    return refusal.status
