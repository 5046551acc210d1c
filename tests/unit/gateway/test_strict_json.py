"""JSON that holds nothing but what can be written again."""

import json

import msgspec
import pytest

from autopoll.gateway.strict_json import DEEPEST, NotJson, NotText, decode, encode, text


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 10**29, 1.5, "é\U0001f600", [], {"a": [{"b": "c"}]}, "[" * 500],
)  # fmt: skip
def test_what_is_json_comes_back(value) -> None:
    assert decode(json.dumps(value).encode()) == value
    assert decode(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "line 1 column 1"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b'"\xed\xa0\xbd"', "not UTF-8 at byte 1"),
        (b"NaN", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"1e999", "1e999 is too large"),
        (b"9" * 5000, "too many digits"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' stands twice"),
        (b"[" * 100_000, "levels deep|line 1"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "levels deep"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_no_json_is_refused_with_the_reason(data, why) -> None:
    with pytest.raises(NotJson, match=why):
        decode(data)


def test_the_deepest_that_is_taken_is_taken() -> None:
    decode(b"[" * DEEPEST + b"1" + b"]" * DEEPEST)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("\ud83d", "the text"),
        ({"a": {"b": ["x", "half \udce9"]}}, "a.b[1]"),
        ({"a": {"\ud83d": 1}}, r"a.'\\ud83d'"),
    ],
)
def test_half_of_a_pair_is_no_text_and_is_found(value, where) -> None:
    with pytest.raises(NotText) as refused:
        decode(json.dumps(value).encode())
    assert str(refused.value).startswith(where.replace("\\\\", "\\"))
    assert refused.value.value == value


class Told(msgspec.Struct):
    answer: str
    sources: list[str]


def test_whatever_is_to_be_told_goes_out_as_json() -> None:
    assert encode(Told("é", ["a"])) == '{"answer":"é","sources":["a"]}'.encode()
    sent = encode(Told("half \ud83d", ["caf\udce9.md"]))
    assert json.loads(sent) == {"answer": "half ?", "sources": ["caf?.md"]}
    assert json.loads(encode({"n": 10**29, "m": -(2**64)})) == {"n": 10**29, "m": -(2**64)}
    assert text("half \ud83d") == "half ?"
