"""What a service says over HTTP, and the failure it is; in the words of the services."""

from datetime import UTC, datetime

import pytest

from autopoll.backends.contract import Permanent, Retriable, Unanswered, Unavailable
from autopoll.backends.http.failures import Refusal, failure
from autopoll.backends.http.retry_after import wait_ms

NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)


def refused(status: int | None, words: str = "no", kind: str = "", **headers: str) -> Unanswered:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure(Refusal(status, kind, words, named), NOW)


@pytest.mark.parametrize(
    ("status", "kind", "words", "cause"),
    [
        (429, "rate_limit_error", "This request would exceed your rate limit", "rate-limit"),
        (429, "rate_limit_exceeded requests", "Rate limit reached for gpt", "rate-limit"),
        (429, "insufficient_quota", "You exceeded your current quota, please check", "quota"),
        (400, "invalid_request_error", "Your credit balance is too low to access", "quota"),
        (400, "invalid_request_error", "You have reached your specified API usage limits", "quota"),
        (402, "", "Insufficient Balance", "quota"),
        (402, "billing_error", "There's an issue with your billing", "quota"),
        (403, "", "spend_limit_reached", "quota"),
        (401, "authentication_error", "invalid x-api-key", "credentials"),
        (401, "invalid_api_key", "Incorrect API key provided", "credentials"),
        (403, "permission_error", "Your API key does not have permission", "credentials"),
        (529, "overloaded_error", "Overloaded", "overloaded"),
        (503, "server_error", "The engine is currently overloaded", "overloaded"),
        (503, "", "Loading model", "overloaded"),
        (200, "overloaded_error", "Overloaded", "overloaded"),
        (200, "rate_limit_error", "slow down", "rate-limit"),
        (None, "429", "too many requests", "rate-limit"),
        (None, "insufficient_quota", "You exceeded your current quota", "quota"),
    ],
)
def test_what_hits_every_question_is_unavailable_with_its_cause(
    status: int | None, kind: str, words: str, cause: str
) -> None:
    error = refused(status, words, kind)
    assert isinstance(error, Unavailable)
    assert error.kind == cause
    assert words in error.what


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "context_length_exceeded", "Your messages resulted in 200000 tokens"),
        (400, "", "This model's maximum context length is 8192 tokens"),
        (400, "exceed_context_size_error", "the request exceeds the available context size"),
        (500, "", "input is too long, the context size is 4096"),
        (413, "request_too_large", "Request exceeds the maximum size"),
        (400, "", "Output blocked by content filtering policy"),
        (404, "not_found_error", "model: claude-nine"),
        (400, "invalid_request_error", "max_tokens: must be positive"),
        (422, "", "field required"),
        (307, "", "moved"),
    ],
)
def test_what_will_not_change_is_permanent(status: int, kind: str, words: str) -> None:
    error = refused(status, words, kind)
    assert isinstance(error, Permanent)
    assert words in error.what or status == 307


@pytest.mark.parametrize("status", [None, 200, 408, 409, 500, 502, 504, 520])
def test_what_may_pass_is_retriable(status: int | None) -> None:
    assert isinstance(refused(status), Retriable)


def test_a_quota_that_names_its_day_is_waited_for() -> None:
    words = (
        "You have reached your specified API usage limits. "
        "You will regain access on 2026-12-01 at 00:00 UTC."
    )
    error = refused(400, words)
    assert isinstance(error, Unavailable)
    assert error.resume_after_ms == int(4.5 * 86_400_000)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after": "Thu, 26 Nov 2026 12:01:00 GMT"}, 60_000),
        ({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1500),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e400"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-26T12:00:09Z",
                "anthropic-ratelimit-tokens-remaining": "100",
                "anthropic-ratelimit-tokens-reset": "2026-11-26T12:59:00Z",
            },
            9000,
        ),
        (
            {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": str(int(NOW.timestamp()) + 3600),
            },
            3_600_000,
        ),
        (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30.5s"},
            90_500,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6ms"}, 6),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6ms"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW.timestamp() + 2)}, 2000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795694402500"}, 2500),
    ],
)
def test_the_time_of_a_reset_is_read_in_every_form_in_use(
    headers: dict[str, str], wait: int | None
) -> None:
    assert wait_ms(headers, NOW) == wait


def test_a_refusal_passes_the_time_on() -> None:
    for status in (429, 529):
        error = refused(status, retry_after="7")
        assert isinstance(error, Unavailable)
        assert error.resume_after_ms == 7000
    error = refused(500, retry_after="2")
    assert isinstance(error, Retriable)
    assert error.retry_after_ms == 2000
