"""Secrets are taken out, ordinary text is left alone, JSON stays JSON, and time stays linear."""

import json
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopoll.redact import redact, redact_message

HEX = "0123456789abcdef" * 4
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/pQ==\nabc\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    "AKIAIOSFODNN7QQAMPLE": "aws-key",
    "ASIAIOSFODNN7QQAMPLE": "aws-key",
    "ghp_" + "aB3" * 12: "github-token",
    "github_pat_11ABCDEFG0" + "aB3_" * 15: "github-token",
    "sk-" + "aB3d" * 12: "openai-key",
    "sk-proj-" + "aB3_-" * 12: "openai-key",
    "sk-ant-api03-" + "aB3_-" * 12: "anthropic-key",
    "xoxb-1234567890-abcdefghij": "slack-token",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sflKxwRJSMeKKF2QT4": "jwt",
    KEY: "private-key",
    KEY.replace("RSA ", ""): "private-key",
}
KEPT = {
    "postgres://me:pa55%20w@db.local/x": "postgres://me:[redacted:url-password]@db.local/x",
    "https://:hunter2@host": "https://:[redacted:url-password]@host",
    "Authorization: Bearer abcdefghij0123456789+/==": "Authorization: Bearer [redacted:bearer]",
    f"token={HEX}": "token=[redacted:token]",
    f'"session_a_token": "{HEX}"': '"session_a_token": "[redacted:token]"',
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": (
        "aws_secret_access_key = [redacted:aws-secret]"
    ),
}
ORDINARY = [
    "",
    "why does the build fail?",
    f"sha256 {HEX} and sha1 {HEX[:40]}",
    f"image@sha256:{HEX}",
    "the task-force met; ask-them-about-the-long-kebab-case-identifier-of-the-thing",
    "sk-learn and sk-image-processing-with-long-words",
    "the bearer of internationalization-and-localization",
    "http://localhost:8080/path@version and user@host:22 and git@github.com:a/b.git",
    "https://example.org/a:b@c",
    "eyJ is how JSON in base64 begins; so do eyJhbGciOiJIUzI1NiJ9 alone",
    "AKIA is a prefix; MAKIAIOSFODNN7QQAMPLES is a word",
    "ghp_short xoxb-short token=abc",
    "\ud800 \0 \U0001f600",
]
# Beginnings over and over, beginnings with endless bodies, and near misses.
HOSTILE = [
    *("AKIA", "gh", "ghp_", "github_pat_", "sk-", "sk-ant-", "sk-proj-", "xoxb-", "eyJ", "eyJa."),
    *("://", "://a", "://a:", "://:", "bearer ", "Bearer a", "bearer    ", "token", "token=", "=a"),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-", "PRIVATE KEY", "aws_secret_access_key"),
    *("aws_secret_access_key=", "a", "A", "0", ".", "-a", "a.", "eyJaaaaaaaaaa.", "\\n", " ", "\n"),
]
BODIES = ["a1", "-", "eyJ.", " ", "\\n"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "see {} there", "x={}, y", '"{}"', "({})", "{}\n"])
def test_a_secret_is_replaced_by_its_kind(secret: str, around: str) -> None:
    assert redact(around.format(secret)) == around.format(f"[redacted:{SECRETS[secret]}]")


@pytest.mark.parametrize("text", KEPT)
def test_what_tells_the_secret_is_kept(text: str) -> None:
    assert redact(text) == redact(redact(text)) == KEPT[text]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == redact_message(text) == text


def test_a_private_key_without_its_end_is_taken_out_too() -> None:
    assert redact(KEY[:45]) == "[redacted:private-key]"
    assert redact(KEY + "\nHello") == "[redacted:private-key]\nHello"


def test_what_looks_like_an_endless_key_takes_no_memory_to_redact() -> None:
    """In a process of its own, as the regular expressions' memory is not Python's."""
    code = (
        "import resource; from autopoll.redact import redact;"
        "text = '-----BEGIN PRIVATE KEY-----' + 'a-' * 500_000;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); redact(text); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30_000, "kilobytes; unbounded it takes 145,000"


@pytest.mark.parametrize("secret", [*SECRETS, *KEPT])
def test_json_is_json_afterwards(secret: str) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in secret)
    for text in (
        json.dumps({"question": f"is {secret} ok?", "n": [1, None, {"deep": secret}], secret: 1}),
        f'{{"question": "is {escaped} ok?"}}',
        json.dumps({"question": secret}).replace("/", "\\/"),
        json.dumps([secret]),
        json.dumps(secret),
    ):
        clean = redact_message(text)
        json.loads(clean)
        assert "[redacted:" in clean
        assert secret not in json.dumps(json.loads(clean))


def test_a_key_names_its_value_as_a_secret() -> None:
    assert json.loads(redact_message(json.dumps({"token": HEX, "sha256": HEX, "n": 5}))) == {
        "token": "[redacted:token]",
        "sha256": HEX,
        "n": 5,
    }


def test_two_halves_of_a_key_in_two_strings_do_not_swallow_what_is_between() -> None:
    text = json.dumps({"a": KEY[:45], "between": 'a "quoted" \\ text', "b": KEY[45:]})
    assert json.loads(redact_message(text))["between"] == 'a "quoted" \\ text'


def test_json_without_secrets_is_not_rewritten() -> None:
    text = '{ "a":1.0e2,"b" : "\\u00e9\\/", "a":NaN }'
    assert redact_message(text) == text


def test_json_nested_too_deeply_is_redacted_as_text() -> None:
    text = '{"a":' * 100_000 + "AKIAIOSFODNN7QQAMPLE"
    assert redact_message(text).endswith("[redacted:aws-key]")


@given(st.text(), st.sampled_from(HOSTILE), st.sampled_from([*SECRETS, *KEPT]))
def test_redacting_twice_is_redacting_once_and_json_survives(
    text: str, hostile: str, secret: str
) -> None:
    value = {text: [hostile + text + secret, {"x": text}]}
    once = redact_message(json.dumps(value))
    assert redact_message(once) == once
    assert isinstance(json.loads(once), dict)


def seconds(text: str) -> float:
    start = time.process_time()  # of this process alone, whatever else the machine does
    redact(text)
    return time.process_time() - start


# All literals stand in front, so that every pattern is tried on every text.
LITERALS = "PRIVATE KEY AKIA ccess gh github_pat_ sk-ant- sk- xox eyJ :// earer oken "


@pytest.mark.parametrize("begin", HOSTILE)
@pytest.mark.parametrize("body", [None, *BODIES])
def test_the_time_grows_with_the_length_and_not_with_its_square(
    begin: str, body: str | None
) -> None:
    unit = begin if body is None else body
    start = "" if body is None else begin

    def text(size: int) -> str:
        return LITERALS + start + unit * (size // len(unit))

    # Eight times the text takes about eight times the time; a square would take 64 times.
    # The best of some tries, because a busy machine makes the small one look too fast.
    ratios = (seconds(text(50_000)) / seconds(text(6_250)) for _ in range(5))
    assert any(ratio < 16 for ratio in ratios)
