"""What services that imitate an API are known to send, and what becomes of it.

Each case is what stands on the wire. Known of: vLLM, llama.cpp, Ollama, LM Studio, OpenRouter,
Azure, TGI, SGLang, LiteLLM, Mistral, DeepSeek, Groq, Together, Perplexity, Gemini, Qwen.
"""

import asyncio
import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listener import Listener
from mock_api import MockApi, Raw

from autopoll.backends import open_backend
from autopoll.backends.contract import Permanent, Retriable, Setting, Unanswered, Unavailable
from autopoll.backends.http.http_backend import Remote
from autopoll.request import Reply, Request

Chunk = dict[str, Any] | str | bytes
PAGE = b"<!DOCTYPE html><html><head><title>Hotel</title><style>p {}</style></head>Log in</html>"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockApi]:
    for variable in os.environ:
        if variable.startswith(("ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(variable)
    with MockApi() as api:
        yield api


def data(chunk: Chunk) -> bytes:
    """Return a chunk as an event; bytes are sent as they are."""
    if isinstance(chunk, bytes):
        return chunk
    return f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n".encode()


def choice(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]
    }


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def whole(content: Any, finish: Any = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode()


async def exchange(backend: Remote, told: Listener, question: str = "How?") -> Reply | Unanswered:
    request = Request(
        delivery=1, fence=1, attempt=1, timeout_ms=9000, conversation="c", question=question
    )
    try:
        return await backend.answer(request, told)
    except Unanswered as error:
        return error


def play(
    name: str, api: MockApi, root: Path, raw: Raw, told: Listener, **options: Any
) -> Reply | Unanswered:
    """Have a backend ask a service that sends what is given; and see that the next one is well."""

    async def scene() -> Reply | Unanswered:
        url = api.url + ("/v1" if name == "openai" else "")
        given = {"model": "mock", "base_url": url, "stall_timeout": "15s", **options}
        (root / "a.md").write_text("one\ntwo\n")
        setting = Setting(shard="main", root=root, context=[root / "a.md"], options=given)
        backend = open_backend(name, setting)
        assert isinstance(backend, Remote)
        await backend.start()
        try:
            api.raw = raw
            result = await exchange(backend, told)
            api.raw = None
            afterwards = await exchange(backend, Listener(), "Afterwards?")
            assert isinstance(afterwards, Reply) and "Afterwards?" in afterwards.answer.text
        finally:
            await backend.stop()
        return result

    return asyncio.run(scene())


def heard(api: MockApi, root: Path, *chunks: Chunk, **options: Any) -> str:
    """Return the answer that a chat service gives, which came in the same pieces."""
    told = Listener()
    result = play("openai", api, root, Raw([data(each) for each in chunks]), told, **options)
    assert isinstance(result, Reply), result
    text = result.answer.text
    assert "".join(told.pieces).strip() == text.partition("\n\n[")[0]
    text.encode()
    return text


def failed(api: MockApi, root: Path, *chunks: Chunk, **more: Any) -> Unanswered:
    told = Listener()
    result = play("openai", api, root, Raw([data(each) for each in chunks], **more), told)
    assert isinstance(result, Unanswered), result
    str(result).encode()
    assert len(str(result)) < 700
    return result


# --- how an answer ends


@pytest.mark.parametrize(
    ("finish", "becomes"),
    [
        ("stop", "Half."),
        ("STOP", "Half."),
        ("eos", "Half."),
        ("eos_token", "Half."),
        ("stop_sequence", "Half."),
        ({"type": "stop", "matched": 2}, "Half."),
        ("length", "Half.\n\n[cut off: no more tokens allowed]"),
        ("model_length", "Half.\n\n[cut off: no more tokens allowed]"),
        ("MAX_TOKENS", "Half.\n\n[cut off: no more tokens allowed]"),
        ("repetition", "Half.\n\n[perhaps cut off; the service's reason: repetition]"),
    ],
)
def test_an_answer_that_has_ended_is_given_and_says_if_it_is_cut(
    api: MockApi, tmp_path: Path, finish: Any, becomes: str
) -> None:
    assert heard(api, tmp_path, choice("Half."), choice("", finish), "[DONE]") == becomes


@pytest.mark.parametrize(
    ("finish", "kind", "words"),
    [
        ("abort", Retriable, "broke the answer off: abort"),
        ("error", Retriable, "broke the answer off: error"),
        ("insufficient_system_resource", Retriable, "insufficient_system_resource"),
        ({"type": "abort"}, Retriable, "broke the answer off: abort"),
        ("content_filter", Permanent, "refused to answer: its content filter stopped it"),
        ("SAFETY", Permanent, "refused to answer"),
        (None, Retriable, "ended in the middle, after 5 characters"),
        ("", Retriable, "ended in the middle, after 5 characters"),
    ],
)
def test_half_an_answer_is_never_a_whole_one(
    api: MockApi, tmp_path: Path, finish: Any, kind: type[Unanswered], words: str
) -> None:
    done = [] if not finish else ["[DONE]"]  # vLLM says it whatever happened
    error = failed(api, tmp_path, choice("Half."), choice("", finish), *done)
    assert isinstance(error, kind)
    assert words in str(error)


def test_done_ends_an_answer_of_a_service_that_gives_no_reason(
    api: MockApi, tmp_path: Path
) -> None:
    assert heard(api, tmp_path, {"choices": [{"delta": {"content": "Yes."}}]}, "[DONE]") == "Yes."


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_a_call_of_a_tool_is_no_answer(api: MockApi, tmp_path: Path, finish: str) -> None:
    call = {"index": 0, "id": "x", "function": {"name": "search", "arguments": "{}"}}
    error = failed(api, tmp_path, delta(tool_calls=[call]), choice(None, finish), "[DONE]")
    assert isinstance(error, Retriable) and "called a tool in place of an answer" in str(error)


def test_a_refusal_is_told_in_its_words(api: MockApi, tmp_path: Path) -> None:
    error = failed(api, tmp_path, delta(refusal="I can"), delta(refusal="not."), choice("", "stop"))
    assert isinstance(error, Permanent) and "refused to answer: I cannot." in str(error)


# --- errors with status 200


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        ({"error": {"message": "out of memory", "code": None}}, Retriable, "out of memory"),
        ({"error": "model 'x' is loading"}, Retriable, "model 'x' is loading"),  # Ollama
        ({"error": {"message": "slow down", "code": 429}}, Unavailable, "rate limit"),  # OpenRouter
        ({"error": {"message": "slow down", "code": "429"}}, Unavailable, "rate limit"),  # LiteLLM
        ({"error": "too busy", "error_type": "overloaded"}, Unavailable, "overloaded"),  # TGI
        (
            {"object": "error", "message": "bad sampling", "type": "BadRequestError", "code": 400},
            Permanent,
            "refuses the request with 400: bad sampling",  # vLLM, SGLang
        ),
        (
            [{"error": {"code": 503, "message": "later", "status": "UNAVAILABLE"}}],
            Unavailable,
            "later",
        ),
        ({"code": "1301", "message": "unsafe content"}, Retriable, "unsafe content"),
        ({"detail": "Not allowed here"}, Retriable, "Not allowed here"),
        ({"errors": [{"code": 1000, "message": "edge failed"}]}, Retriable, "edge failed"),
        (
            {"error": {"message": "exceeds the available context size", "type": "x"}},
            Permanent,
            "too long for the model",  # llama.cpp
        ),
        (
            {**choice("Half.", "error"), "error": {"message": "upstream died"}},
            Retriable,
            "upstream",
        ),
        (choice("Half.", "error", error={"message": "upstream died"}), Retriable, "upstream died"),
    ],
)
def test_an_error_with_status_200_is_told_with_its_reason(
    api: MockApi, tmp_path: Path, sent: Any, kind: type[Unanswered], words: str
) -> None:
    error = failed(api, tmp_path, choice("Half."), json.dumps(sent), "[DONE]")
    assert isinstance(error, kind), error
    assert words in str(error)


@pytest.mark.parametrize("way", ["body", "data line", "event"])
def test_an_error_is_told_in_whatever_way_it_comes(api: MockApi, tmp_path: Path, way: str) -> None:
    text = json.dumps({"error": {"message": "out of memory"}})
    chunks: dict[str, list[Chunk]] = {
        "body": [text.encode()],
        "data line": [text],
        "event": [choice("Half."), f"event: error\ndata: {text}\n\n".encode()],
    }
    assert "the service failed: out of memory" in str(failed(api, tmp_path, *chunks[way]))


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([PAGE], "sent a web page in place of an answer: Hotel Log in"),
        ([b"\xef\xbb\xbf\r\n " + PAGE], "Hotel Log in"),
        ([b"upstream connect error\n"], "sent no answer but: upstream connect error"),
        ([b'{"hello": "world"}'], 'no answer but: {"hello": "world"}'),
        ([b"{oops"], "cannot be read: '{oops'"),
        ([b'data: {"choices": [oops\n\n'], "cannot be read"),
        ([b"data: 7\n\n"], "cannot be read: '7'"),
        ([b"event: error\ndata: it broke\n\n"], "it broke"),
        ([b": only a comment\n\n"], "sent nothing (status 200)"),
        ([], "sent nothing (status 200)"),
        ([b"x" * 300_000], "no answer but: xxx"),
    ],
)
def test_what_is_no_answer_at_all_is_told_as_what_it_is(
    api: MockApi, tmp_path: Path, chunks: list[bytes], words: str
) -> None:
    error = failed(api, tmp_path, *chunks)
    assert isinstance(error, Retriable) and words in str(error)


def test_a_page_with_an_error_status_is_told_without_its_markup(
    api: MockApi, tmp_path: Path
) -> None:
    error = failed(api, tmp_path, PAGE, status=502, headers={"content-type": "text/html"})
    assert isinstance(error, Retriable) and "failed with 502: Hotel Log in" in str(error)


def test_no_content_is_no_answer(api: MockApi, tmp_path: Path) -> None:
    error = failed(api, tmp_path, status=204)
    assert isinstance(error, Retriable) and "sent nothing (status 204)" in str(error)


# --- the forms of an answer


@pytest.mark.parametrize(
    "chunks",
    [
        [b'data:{"choices":[{"delta":{"content":"Yes."}}]}\n\ndata:[DONE]\n\n'],
        [data(choice("Yes.", "stop")).replace(b"\n", b"\r\n"), b"data: [DONE]\r\n\r\n"],
        [data(choice("Yes.", "stop")).replace(b"\n", b"\r"), b"data: [DONE]\r\r"],
        [bytes([each]) for each in data(choice("Yes.", "stop")).replace(b"\n", b"\r\n")],
        [b"\xef\xbb\xbf" + data(choice("Yes.", "stop")), b"data:  [DONE]  \n\n"],
        [b'data: {"choices":[{"delta":\ndata: {"content":"Yes."}}]}\n\ndata: [DONE]'],
        [choice("Yes."), b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}'],  # no line end
        [b"id: 1\nretry: 5\nevent: message\n" + data(choice("Yes.", "stop"))],
        [delta(role="assistant"), choice("Yes."), choice(None, "stop"), "[DONE]"],
        [
            {"choices": []},
            {"choices": None},
            {"choices": [{"delta": None}]},
            choice("Yes.", "stop"),
        ],
        [{"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, choice("Yes.", "stop")],
        [choice([{"type": "text", "text": "Yes"}, "."], "stop")],
        [
            choice(
                [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}], "stop"
            )
        ],
        [choice(""), choice("Yes.", "stop"), {"choices": [], "usage": None}, "[DONE]"],
        [choice("Yes.", "stop", index="0"), choice("No.", "stop", index=1)],
        [choice("No.", "stop", index=1), choice("Yes.", "stop")],
        [
            {
                **choice("Yes.", "stop"),
                "id": None,
                "created": "x",
                "unknown": {"a": [1]},
                "model": None,
            }
        ],
        ["null", "", choice("Yes.", "stop")],
        [whole("Yes.")],
        [whole("Yes.", None)],
        [whole([{"type": "text", "text": "Yes."}]), b"\n"],
        [b"\n\n  ", whole("Yes.")],  # DeepSeek keeps the connection alive so
        [
            {"choices": [{"delta": {"content": "Yes"}, "message": {"content": "Yes"}}]},
            {"choices": [{"delta": {"content": "."}, "message": {"content": "Yes."}}]},
            {"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]},  # Perplexity
        ],
    ],
)
def test_an_answer_is_taken_in_every_form_that_is_known(
    api: MockApi, tmp_path: Path, chunks: list[Chunk]
) -> None:
    assert heard(api, tmp_path, *chunks) == "Yes."


def test_a_compressed_answer_is_read(api: MockApi, tmp_path: Path) -> None:
    packed = gzip.compress(data(choice("Yes.", "stop")) + data("[DONE]"))
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    result = play("openai", api, tmp_path, Raw([packed], headers=headers), Listener())
    assert isinstance(result, Reply) and result.answer.text == "Yes."


def test_characters_that_were_cut_in_two_are_put_together_and_half_a_one_is_marked(
    api: MockApi, tmp_path: Path
) -> None:
    answer = heard(api, tmp_path, choice("a\ud83d"), choice("\udd26b \udd26 c\ud83d", "stop"))
    assert answer == "a🔦b \ufffd c\ufffd"
    error = failed(api, tmp_path, {"error": {"message": "half \ud83d"}})
    assert "half ?" in str(error)


@pytest.mark.parametrize(
    ("usage", "prompt", "cached", "output"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, 9, 0, 2),
        ({"prompt_tokens": "9", "completion_tokens": "2"}, 9, 0, 2),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}}, 4, 5, 0),
        ({"prompt_tokens": 9, "prompt_tokens_details": None, "completion_tokens": 2.0}, 9, 0, 2),
        ({"prompt_tokens": -9, "completion_tokens": 1e99}, 0, 0, 10**9),
        ({"prompt_tokens": float("nan"), "completion_tokens": "many"}, 0, 0, 0),
    ],
)
def test_what_it_cost_is_told_as_far_as_it_makes_sense(
    api: MockApi, tmp_path: Path, usage: dict[str, Any], prompt: int, cached: int, output: int
) -> None:
    last = {"choices": [], "usage": usage}
    raw = Raw([data(each) for each in (choice("Yes.", "stop"), last, "[DONE]")])
    result = play("openai", api, tmp_path, raw, Listener())
    assert isinstance(result, Reply) and result.usage is not None
    assert (result.usage.input_tokens, result.usage.cached_tokens) == (prompt, cached)
    assert result.usage.output_tokens == output


# --- signs of life, and thoughts


def test_comments_keep_a_question_alive_beyond_the_time_for_silence(
    api: MockApi, tmp_path: Path
) -> None:
    alive = [b": OPENROUTER PROCESSING\n\n"] * 8
    raw = Raw([*alive, data(choice("Yes.", "stop"))], pause=0.2)
    told, begun = Listener(), time.monotonic()
    result = play("openai", api, tmp_path, raw, told, stall_timeout="1s")
    assert isinstance(result, Reply), result
    assert time.monotonic() - begun > 1.5
    assert len(told.notes) >= 8


@pytest.mark.parametrize(
    "pieces",
    [
        ["<think>", "Hm, secret", ".</think>", "\n\nYes [a.md:1-1]."],
        ["<think>Hm, secret [a.md:2-2].</think>Yes [a.md:1-1]."],
        list("\n<think>\nHm, secret [a.md:2-2].\n</think>\n\nYes [a.md:1-1]."),
        ["<think></think><think>secret</think>Yes [a.md:1-1]."],
        ["<THINKING>secret</THINKING>Yes [a.md:1-1]."],
        ["[THINK]secret[/THINK]Yes [a.md:1-1]."],
        ["<|channel|>analysis<|message|>secret<|end|><|start|>assistant", "<|channel|>final"
         "<|message|>Yes [a.md:1-1]."],
    ],
)  # fmt: skip
def test_thoughts_between_tags_are_no_part_of_the_answer_its_pieces_and_its_sources(
    api: MockApi, tmp_path: Path, pieces: list[str]
) -> None:
    told = Listener()
    chunks = [choice(piece) for piece in pieces] + [choice("", "stop")]
    result = play("openai", api, tmp_path, Raw([data(each) for each in chunks]), told)
    assert isinstance(result, Reply)
    assert result.answer.text == "Yes [a.md:1-1]."
    assert result.answer.sources == ["a.md:1-1"]
    assert "".join(told.pieces).strip() == "Yes [a.md:1-1]."


def test_thoughts_without_their_first_tag_are_left_out(api: MockApi, tmp_path: Path) -> None:
    chunks = [choice(piece) for piece in ("Hm, ", "secret [a.md:2-2]\n</th", "ink>\n\nYes.")]
    raw = Raw([data(each) for each in (*chunks, choice("", "stop"))])
    for model, pieces in (("qwen3:8b", "Yes."), ("mock", None)):
        told = Listener()
        result = play("openai", api, tmp_path, raw, told, model=model)
        assert isinstance(result, Reply)
        assert (result.answer.text, result.answer.sources) == ("Yes.", [])
        assert pieces is None or "".join(told.pieces).strip() == pieces


def test_a_model_that_was_heard_to_think_so_is_known_for_it(api: MockApi, tmp_path: Path) -> None:
    raw = Raw([data(choice("Hm, secret\n</think>\nYes.")), data(choice("", "stop"))])
    told = Listener()

    async def scene() -> None:
        given = {"model": "mock", "base_url": api.url + "/v1"}
        setting = Setting(shard="main", root=tmp_path, context=[], options=given)
        backend = open_backend("openai", setting)
        assert isinstance(backend, Remote)
        await backend.start()
        api.raw = raw
        await exchange(backend, Listener())
        await exchange(backend, told)
        await backend.stop()

    asyncio.run(scene())
    assert "".join(told.pieces) == "Yes."


@pytest.mark.parametrize(
    "text", ["Write `</think>` at its end.", 'Say "</think>" then.', "a <b> c"]
)
def test_a_text_that_speaks_of_tags_is_left_as_it_is(
    api: MockApi, tmp_path: Path, text: str
) -> None:
    assert heard(api, tmp_path, choice(text, "stop")) == text


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_thoughts_without_an_end_are_no_answer(api: MockApi, tmp_path: Path, finish: str) -> None:
    error = failed(api, tmp_path, choice("<think>Hm, secret"), choice(" and more", finish))
    assert "secret" not in str(error)
    if finish == "stop":
        assert isinstance(error, Retriable) and "empty answer, and nothing but thoughts" in str(
            error
        )
    else:
        assert isinstance(error, Permanent) and "max_tokens" in str(error)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_in_a_field_of_their_own_are_signs_of_life_only(
    api: MockApi, tmp_path: Path, field: str
) -> None:
    told = Listener()
    chunks = [delta(**{field: "secret"})] * 3 + [choice("Yes.", "stop")]
    raw = Raw([data(each) for each in chunks])
    result = play("openai", api, tmp_path, raw, told, model="deepseek-r1")
    assert isinstance(result, Reply) and result.answer.text == "Yes."
    assert told.pieces == ["Yes."] and len(told.notes) >= 3


# --- the Messages API


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def text_event(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def stop_event(reason: Any, **more: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason, **more}, usage={"output_tokens": 3})


def block(kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=0, content_block={"type": kind, **fields})


STOP = event("message_stop")


@pytest.mark.long
@pytest.mark.parametrize(
    ("chunks", "becomes"),
    [
        ([text_event("Yes."), stop_event("end_turn"), STOP], "Yes."),
        ([text_event("Yes."), stop_event("stop_sequence")], "Yes."),
        ([text_event("Yes."), STOP], "Yes."),
        ([text_event("Yes."), stop_event("max_tokens"), STOP], "Yes.\n\n[cut off: 8192"),
        ([text_event("Yes."), stop_event("model_context_window_exceeded")], "[cut off at the end"),
        ([text_event("Yes."), stop_event("novel"), STOP], "Yes.\n\n[perhaps cut off; the "),
        ([block("text", text="Yes."), event("ping"), stop_event("end_turn"), STOP], "Yes."),
        ([block("thinking", thinking="Hm."), block("redacted_thinking", data="x"),
          text_event("Yes."), stop_event("end_turn"), STOP], "Yes."),
        ([b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Yes."}}\n\n',
          b'data:{"type":"message_stop"}\n\n'], "Yes."),  # no names of events
        ([b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"Yes."}}\n\n',
          STOP], "Yes."),  # nothing but names
        ([json.dumps({"type": "message", "content": [{"type": "text", "text": "Yes."}],
                      "stop_reason": "end_turn", "usage": {"input_tokens": "4"}}).encode()],
         "Yes."),
        ([text_event("<think>secret</think>Yes."), stop_event("end_turn"), STOP], "Yes."),
        ([event("message_start", message={"usage": None}), event("novel", x=1),
          text_event("Yes."), stop_event("end_turn", stop_details="odd"), STOP], "Yes."),
    ],
)  # fmt: skip
def test_a_message_is_taken_in_every_form_that_is_known(
    api: MockApi, tmp_path: Path, chunks: list[bytes], becomes: str
) -> None:
    told = Listener()
    result = play("anthropic", api, tmp_path, Raw(chunks), told)
    assert isinstance(result, Reply), result
    assert becomes in result.answer.text and result.answer.text.startswith("Yes.")
    assert "".join(told.pieces) == "Yes."


@pytest.mark.parametrize(
    ("chunks", "kind", "words"),
    [
        ([text_event("Half."), stop_event("refusal"), STOP], Permanent, "refused to answer"),
        ([text_event("Half."), stop_event("refusal", stop_details={"explanation": "No."})],
         Permanent, "refused to answer: No."),
        ([text_event("Half."), stop_event("pause_turn"), STOP], Retriable, "off: pause_turn"),
        ([block("tool_use", name="x"), stop_event("tool_use"), STOP], Retriable, "called a tool"),
        ([text_event("Half.")], Retriable, "ended in the middle, after 5 characters"),
        ([text_event("Half."), stop_event(None)], Retriable, "ended in the middle"),
        ([text_event("Half."),
          event("error", error={"type": "overloaded_error", "message": "Busy"})],
         Unavailable, "overloaded: Busy"),
        ([b'data: {"type":"error","error":{"type":"rate_limit_error","message":"Slow"}}\n\n'],
         Unavailable, "rate limit is reached: Slow"),
        ([b'{"type":"error","error":{"type":"api_error","message":"Oops"}}'], Retriable, "Oops"),
        ([PAGE], Retriable, "web page in place of an answer: Hotel Log in"),
        ([], Retriable, "sent nothing"),
        ([block("thinking", thinking="Hm."), stop_event("end_turn"), STOP], Retriable, "empty"),
    ],
)  # fmt: skip
def test_a_message_that_is_none_is_told_with_its_reason(
    api: MockApi, tmp_path: Path, chunks: list[bytes], kind: type[Unanswered], words: str
) -> None:
    result = play("anthropic", api, tmp_path, Raw(chunks), Listener())
    assert isinstance(result, kind), result
    assert words in str(result)


def test_pings_keep_a_question_alive(api: MockApi, tmp_path: Path) -> None:
    pings = [event("ping")] * 8
    raw = Raw([*pings, text_event("Yes."), stop_event("end_turn"), STOP], pause=0.15)
    result = play("anthropic", api, tmp_path, raw, Listener(), stall_timeout="1s")
    assert isinstance(result, Reply), result
