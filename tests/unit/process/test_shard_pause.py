"""How long a shard is paused, and what is read of it."""

from pathlib import Path

import msgspec
import pytest

from autopoll.home.home import Home
from autopoll.process import shard_pause
from autopoll.process.shard_pause import span_ms
from autopoll.request import Failure

MINUTE = 60_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.make_private()
    return made


def no(cause: str, message: str = "come back later") -> Failure:
    return Failure(kind="unavailable", message=message, cause=cause)


@pytest.mark.parametrize(
    ("cause", "given_ms", "spans"),
    [
        ("quota", None, [1, 2, 4, 8, 15, 15, 15]),
        ("overloaded", None, [1, 2, 4, 8, 15, 15]),
        ("credentials", None, [5, 5, 5, 5]),
        ("credentials", 1000, [5, 5]),
        ("quota", 3 * 60 * MINUTE, [180, 180, 180]),
        ("quota", 2 * MINUTE, [2] * 7 + [128 / 60, 256 / 60]),
        ("quota", 10**18, [31 * 24 * 60] * 2),
        ("quota", 0, [1 / 60, 2 / 60, 4 / 60]),
    ],
)
def test_a_pause_lasts_as_long_as_given_or_else_ever_longer(cause, given_ms, spans) -> None:
    found = [span_ms(cause, given_ms, times) / MINUTE for times in range(1, len(spans) + 1)]
    assert found == pytest.approx(spans)
    assert span_ms(cause, None, 10**6) <= 15 * MINUTE


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"[" * 100_000, b"{}", b'{"cause":"mood","text":"","since":1}']
)
def test_a_pause_that_cannot_be_read_is_none(home, garbage) -> None:
    (home.pauses / "main").write_bytes(garbage)
    assert shard_pause.read(home, "main") is None


def test_no_file_can_pause_for_more_than_a_month(home) -> None:
    kept = msgspec.to_builtins(shard_pause.begin(home, "shard main", no("quota"), None))
    for since, until in ((shard_pause.wall_ms(), 2**62), (2**62, 2**63 - 1), (-(2**62), 2**62)):
        (home.pauses / "main").write_bytes(
            msgspec.json.encode({**kept, "since": since, "until": until})
        )
        seen = shard_pause.read(home, "main")
        assert seen is None or seen.left_s <= 31 * 86400


def test_secrets_in_what_the_service_says_are_not_shown(home) -> None:
    key = "sk-ant-api03-" + "abcdefghij" * 4
    began = shard_pause.begin(
        home, "shard main", no("credentials", f"the key {key} is refused"), None
    )
    assert key not in began.text + began.words + home.incidents.read_text()
