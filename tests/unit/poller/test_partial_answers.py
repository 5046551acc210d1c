"""Answers that are still being written: what is kept of them, and what may be shown."""

import msgspec
import pytest

from autopoll.bridge.poller_protocol import AnswerText
from autopoll.bridge.records import Delivery
from autopoll.poller.partial_answers import HELD, LARGEST, PartialAnswer, PartialAnswers
from autopoll.redact.redact import redact

KEY = "sk-ant-api03-" + "aB3_-" * 12
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/pQ==\nabc\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    f"the key is {KEY} and no other",
    f"Bearer  {'abcdefghij0123456789'} is sent",
    f'my_token = "{"0123456789abcdef" * 4}" is kept',
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY it was",
    "see postgres://me:pä55%20w@db.local/x for that",
    f"it begins\n{PRIVATE}\nand ends",
    f"ключ{KEY} и 日本語{KEY}。です",
]


@pytest.fixture
def kept() -> PartialAnswers:
    return PartialAnswers(redacting=False)


def attempt_at(message_id: int, attempt: int) -> Delivery:
    return Delivery(
        message_id=message_id, conversation="c", session="b", shard="main", lane="own", text="?",
        metadata=None, fence=attempt, attempt=attempt, enrolled_at=0,
    )  # fmt: skip


def add(kept: PartialAnswers, message_id: int, attempt: int, piece: str) -> str:
    return kept.add(attempt_at(message_id, attempt), piece)


def remove(kept: PartialAnswers, message_id: int, attempt: int) -> None:
    kept.remove(attempt_at(message_id, attempt))


def so_far(kept: PartialAnswers) -> str:
    return kept.so_far(7).text


def test_what_was_written_is_kept_for_who_comes_later(kept: PartialAnswers) -> None:
    assert kept.so_far(7) == AnswerText(7, 0, 0, "", so_far=True)
    assert add(kept, 7, 1, "It is ") == "It is "
    assert add(kept, 7, 1, "über ") + add(kept, 7, 1, "there.") == "über there."
    add(kept, 8, 1, "Something else.")
    assert so_far(kept) == "It is über there."


def test_only_the_newest_attempt_counts_and_one_that_is_over_is_forgotten(
    kept: PartialAnswers,
) -> None:
    add(kept, 7, 1, "It is ")
    add(kept, 7, 2, "No, it ")
    add(kept, 7, 1, "there.")  # of a lease that was lost
    found = kept.so_far(7)
    assert found == AnswerText(7, 2, 2, "No, it ", so_far=True)
    remove(kept, 7, 2)
    assert so_far(kept) == "It is there."
    remove(kept, 7, 1)
    remove(kept, 7, 1)
    assert kept.so_far(7) == AnswerText(7, 0, 0, "", so_far=True)


def test_an_endless_answer_is_kept_up_to_its_bound(kept: PartialAnswers) -> None:
    while add(kept, 7, 1, "x" * 100_000):
        pass
    assert LARGEST - 100_000 < len(so_far(kept)) <= LARGEST
    assert not add(kept, 7, 1, "x")
    remove(kept, 7, 1)
    assert add(kept, 7, 2, "x")


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 50])
def test_a_secret_is_never_passed_on_however_it_is_cut(text: str, size: int) -> None:
    kept = PartialAnswers(redacting=True)
    starts = range(0, len(text), size)
    seen = "".join(add(kept, 7, 1, text[start : start + size]) for start in starts)
    assert "[redacted:" in seen
    assert redact(text).startswith(seen)
    assert so_far(kept) == seen


def test_plain_words_are_not_held_back() -> None:
    kept = PartialAnswers(redacting=True)
    assert add(kept, 7, 1, "The bearer of the tok") == "The bearer of the "
    assert add(kept, 7, 1, "en is here.\n日本") == "token is here.\n日本"


def test_a_word_without_end_is_not_gathered_for_ever() -> None:
    kept = PartialAnswers(redacting=True)
    for _ in range(HELD // 1000 + 1):
        add(kept, 7, 1, "a1" * 500)
    assert not add(kept, 7, 1, "a word at last ")
    assert so_far(kept) == ""


def test_what_was_kept_goes_over_to_the_next_program(kept: PartialAnswers) -> None:
    add(kept, 7, 2, "the first ")
    after = PartialAnswers(redacting=False)
    data = msgspec.msgpack.encode(kept.hand_over())
    after.go_on(msgspec.msgpack.decode(data, type=list[tuple[int, int, PartialAnswer]]))
    add(after, 7, 2, "and more")
    assert after.so_far(7) == AnswerText(7, 2, 2, "the first and more", so_far=True)
