"""Turns the messages of the CLI into an answer or a failure of the contract.

An error of the service does not raise: it comes as a result whose subtype is "success" and whose
`is_error` is true, so only the latter is looked at. Before it tries again by itself, the CLI sends
the reason and the time it will wait; that message ends the question here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    RateLimitInfo,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    ToolUseBlock,
)

from autopoll.backends.contract import Permanent, Report, Retriable, Unanswered, Unavailable
from autopoll.backends.usage import spent
from autopoll.clock import wall_ms
from autopoll.redact.redact import redact
from autopoll.request import Usage

# By what the CLI calls it, and by HTTP status where it has no name for it.
_CREDENTIALS = frozenset(["authentication_failed", "oauth_org_not_allowed", 401, 403])
_QUOTA = frozenset(["billing_error", 402])
_RATE = frozenset(["rate_limit", 429])
_OVERLOADED = frozenset(["overloaded", 503, 529])
_PERMANENT = frozenset(["invalid_request", "model_not_found", "prompt_too_long", 400, 404, 413])
_MENDS = {
    "credentials": "Set the key (`key_file`, `key_env`), or log in by running: claude",
    "quota": "Add credit or wait for the reset.",
    "model_not_found": "Set `model` in the shard's options.",
    "prompt_too_long": "Set `context_tokens` lower, or `window` to what the model has.",
    "error_max_turns": "Raise `max_turns` in the shard's options.",
}


class ClaudeAnswer(NamedTuple):
    """An answer and what it cost."""

    text: str
    usage: Usage


class AnswerCollector:
    """Takes the messages of one question as they come."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._error: str | None = None  # of the last message of the model, in the CLI's words
        self._limit: RateLimitInfo | None = None  # the plan's limit, when it has been hit
        self._calls: list[dict[str, Any]] = []  # what each call of the model has cost so far

    @property
    def spent(self) -> Usage | None:
        """What is known to have been spent when there is no result; None when no call began."""
        return _usage(self._calls) if self._calls else None

    def take(self, message: Message) -> ClaudeAnswer | None:
        """Return the answer once it is there; raise the failure of the contract that it became."""
        match message:
            case StreamEvent(parent_tool_use_id=None, event=event):
                self._stream(event)
            case SystemMessage(subtype="api_retry", data=data):
                self._retry(data)
            case RateLimitEvent(rate_limit_info=info):
                self._limit = info if info.status == "rejected" else None
            case AssistantMessage(error=error, content=content):
                self._error = error
                for block in content:
                    if isinstance(block, ToolUseBlock):
                        self._report(f"uses {block.name}")
            case ResultMessage():
                return self._result(message)
            case _:
                self._report("")
        return None

    def _stream(self, event: Mapping[str, Any]) -> None:
        delta = event.get("delta") or {}
        if event.get("type") == "message_start":
            self._calls.append(dict(event.get("message", {}).get("usage") or {}))
        elif event.get("type") == "message_delta" and self._calls:
            self._calls[-1].update(event.get("usage") or {})
        if event.get("type") == "content_block_delta" and delta.get("type") == "text_delta":
            self._report.piece(str(delta.get("text", "")))
        elif delta.get("stop_reason") == "refusal":
            # The CLI would go on by itself and ask for something else.
            raise Permanent("the model refused to answer", usage=self.spent)
        else:
            self._report("")

    def _retry(self, data: Mapping[str, Any]) -> None:
        """End the question where the CLI would try again; but let it renew a login."""
        status, error, wait = (data.get(key) for key in ("error_status", "error", "retry_delay_ms"))
        words = f"status {status}" if status else "the connection to the service broke"
        wait_ms = round(wait) if isinstance(wait, int | float) and wait >= 0 else None
        reason = f"{words} ({error or 'unknown'})"
        failure = self._failure({error, status}, reason, wait_ms, self.spent)
        if not isinstance(failure, Unavailable) or failure.kind != "credentials":
            raise failure
        self._report("")

    def _result(self, result: ResultMessage) -> ClaudeAnswer:
        usage = _usage([result.usage or {}], result.total_cost_usd)
        if result.is_error:
            reason = result.result or "; ".join(result.errors or []) or result.subtype
            kinds = {self._error, result.api_error_status, result.terminal_reason, result.subtype}
            raise self._failure(kinds, reason, None, usage)
        text = (result.result or "").strip()
        if not text:
            raise Retriable("the model gave an empty answer", usage=usage)
        return ClaudeAnswer(text, usage)

    def _failure(
        self, kinds: set[Any], reason: str, wait_ms: int | None, usage: Usage | None = None
    ) -> Unanswered:
        """Return the failure that the service's answer is; here and only here."""
        words = f"Claude Code: {redact(reason)}"
        if kinds & _CREDENTIALS:
            return Unavailable(words, _MENDS["credentials"], kind="credentials", usage=usage)
        if kinds & _QUOTA:
            return Unavailable(words, _MENDS["quota"], kind="quota", usage=usage)
        if kinds & _RATE and self._limit is not None:
            resets = self._limit.resets_at
            left = None if resets is None else max(0, round(resets * 1000) - wall_ms())
            which = (self._limit.rate_limit_type or "plan").replace("_", " ")
            words += f" (the {which} limit)"
            return Unavailable(words, kind="quota", resume_after_ms=left, usage=usage)
        if kinds & _RATE:
            return Unavailable(words, kind="rate-limit", resume_after_ms=wait_ms, usage=usage)
        if kinds & _OVERLOADED:
            return Unavailable(words, kind="overloaded", resume_after_ms=wait_ms, usage=usage)
        if kinds & _PERMANENT or "error_max_turns" in kinds:
            mend = next((_MENDS[kind] for kind in kinds if kind in _MENDS), "")
            return Permanent(words, mend, usage=usage)
        return Retriable(words, usage=usage)


def _usage(calls: Iterable[Mapping[str, Any]], dollars: float | None = None) -> Usage:
    read = new = output = 0
    for usage in calls:
        read += _tokens(usage.get("cache_read_input_tokens"))
        new += _tokens(usage.get("input_tokens"))
        # Writing to the cache costs, as reading from it does not.
        new += _tokens(usage.get("cache_creation_input_tokens"))
        output += _tokens(usage.get("output_tokens"))
    return spent(prompt=new + read, cached=read, output=output, dollars=dollars)


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) else 0
