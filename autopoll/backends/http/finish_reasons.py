"""The reasons that services give for the end of an answer, and what they mean; pure.

Both APIs have a list of reasons, and services that imitate them have more: vLLM and SGLang abort,
TGI and Together reach an `eos`, DeepSeek runs out of resources, OpenRouter ends with an error,
Mistral and Gemini have names of their own. What is not listed here is shown with the answer.
"""

from typing import Any

from autopoll.backends.http.stream import End, Ended

_REASONS: dict[End, str] = {
    "done": "stop stop_sequence end_turn eos eos_token complete completed end",
    "cut": "length max_tokens max_output_tokens model_length",
    "full": "model_context_window_exceeded",
    "refused": "content_filter content_filtered refusal safety sensitive recitation blocklist "
    "prohibited_content spii model_armor guardrail_intervened",
    "broken": "abort aborted error cancelled canceled network_error timeout load unload "
    "insufficient_system_resource pause_turn malformed_function_call",
    "tools": "tool_calls tool_call tool_use function_call",
}
_MEANT: dict[str, End] = {word: end for end, words in _REASONS.items() for word in words.split()}
_SHOWN = ("broken", "odd")  # where the service's own word says more than ours


def ended(reason: Any, why: str = "") -> Ended | None:
    """Return the end that a reason means; None when there is none yet."""
    if isinstance(reason, dict):  # as older versions of SGLang have it
        reason = reason.get("type")
    if not isinstance(reason, str) or not reason.strip():
        return None
    word = reason.strip().lower().replace("-", "_")
    how = _MEANT.get(word, "odd")
    return Ended(how, why or (reason if how in _SHOWN else ""))
