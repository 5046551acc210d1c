"""Answers that are still being written: what is kept of them, and what who follows is told."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopoll.bridge.records import Delivery
from autopoll.client.partial_answer import AnswerPiece, PieceReader
from autopoll.home.home import Home
from autopoll.poller.partial_answers import HELD, LARGEST, PartialAnswers
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
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make_private()
    return home


def attempt_at(message_id: int, attempt: int) -> Delivery:
    return Delivery(
        message_id=message_id, conversation="c", session="b", shard="main", lane="own", text="?",
        metadata=None, fence=attempt, attempt=attempt, enrolled_at=0,
    )  # fmt: skip


def add(kept: PartialAnswers, message_id: int, attempt: int, piece: str) -> str:
    return kept.add(attempt_at(message_id, attempt), piece)


def remove(kept: PartialAnswers, message_id: int, attempt: int) -> None:
    kept.remove(attempt_at(message_id, attempt))


class Following:
    """Somebody who follows question 7."""

    def __init__(self, home: Home) -> None:
        self.pieces: list[AnswerPiece] = []
        self.follower = PieceReader(home, 7, self.pieces.append)

    def told(self, attempt: int = 1) -> list[tuple[int, str, bool]]:
        self.pieces.clear()
        self.follower.look(attempt)
        return [(piece.attempt, piece.text, piece.anew) for piece in self.pieces]


@pytest.fixture
def following(home: Home) -> Iterator[Following]:
    following = Following(home)
    yield following
    following.follower.close()


def test_who_follows_is_told_each_piece_once_in_its_order(home, following) -> None:
    kept = PartialAnswers(home, redacting=False)
    assert following.told() == []
    assert add(kept, 7, 1, "It is ")
    assert following.told() == [(1, "It is ", False)]
    assert following.told() == []
    assert add(kept, 7, 1, "über ") and add(kept, 7, 1, "there.")
    assert following.told() == [(1, "über there.", False)]
    late = Following(home)
    assert late.told() == [(1, "It is über there.", False)]
    late.follower.close()


@pytest.mark.parametrize("attempt", [2, 1])  # 1: what was begun was given back without an attempt
def test_another_attempt_begins_anew_and_says_so(home, following, attempt: int) -> None:
    kept = PartialAnswers(home, redacting=False)
    add(kept, 7, 1, "It is ")
    assert following.told() == [(1, "It is ", False)]
    add(kept, 7, 1, "nev")  # nobody looked in time
    remove(kept, 7, 1)
    add(kept, 7, attempt, "No, it ")
    assert following.told(attempt) == [(attempt, "No, it ", True)]
    add(kept, 7, attempt, "is not.")
    assert following.told(attempt) == [(attempt, "is not.", False)]


def test_nothing_is_left_of_an_attempt_that_is_over_or_of_a_poller_before(home) -> None:
    kept = PartialAnswers(home, redacting=False)
    add(kept, 7, 1, "It is ")
    add(kept, 8, 3, "So ")
    assert [path.stat().st_mode & 0o777 for path in home.partials.iterdir()] == [0o600] * 2
    remove(kept, 7, 1)
    remove(kept, 7, 1)
    assert [path.name for path in home.partials.iterdir()] == ["8-3"]
    PartialAnswers(home, redacting=False)
    assert list(home.partials.iterdir()) == []


def test_an_endless_answer_is_kept_up_to_its_bound(home, following) -> None:
    kept = PartialAnswers(home, redacting=False)
    while add(kept, 7, 1, "x" * 100_000):
        pass
    assert LARGEST - 100_000 < len(following.told()[0][1]) <= LARGEST
    assert not add(kept, 7, 1, "x")
    remove(kept, 7, 1)
    assert add(kept, 7, 2, "x")


def test_nothing_is_written_through_what_somebody_put_in_its_place(home, following) -> None:
    victim = home.root / "victim"
    victim.write_text("mine")
    kept = PartialAnswers(home, redacting=False)
    (home.partials / "7-1").symlink_to(victim)
    assert add(kept, 7, 1, "It is ")  # in a file of its own
    (home.partials / "7-1").unlink()
    (home.partials / "7-1").symlink_to(victim)
    assert not add(kept, 7, 1, "there.")
    assert following.told() == []  # nor is anything read through it
    (home.partials / "7-2").touch()
    add(kept, 7, 2, "It ")
    os.link(home.partials / "7-2", home.root / "other")
    assert not add(kept, 7, 2, "is.")
    os.mkfifo(home.partials / "7-3")
    assert following.told(3) == []
    assert victim.read_text() == "mine"


def test_a_folder_or_file_that_is_gone_costs_the_pieces_and_nothing_else(home, following) -> None:
    kept = PartialAnswers(home, redacting=False)
    home.partials.rmdir()
    assert not add(kept, 7, 1, "It is ")
    home.make_private()
    assert not add(kept, 7, 1, "there.")  # its beginning is missing
    remove(kept, 7, 1)
    add(kept, 8, 1, "So ")
    (home.partials / "8-1").unlink()
    assert not add(kept, 8, 1, "it is.")
    assert list(home.partials.iterdir()) == []
    assert add(kept, 7, 2, "It is ")
    assert following.told(2) == [(2, "It is ", False)]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 50])
def test_a_secret_never_lies_there_however_it_is_cut(home, following, text, size) -> None:
    kept = PartialAnswers(home, redacting=True)
    for start in range(0, len(text), size):
        add(kept, 7, 1, text[start : start + size])
    seen = "".join(piece[1] for piece in following.told())
    assert "[redacted:" in seen
    assert redact(text).startswith(seen)


def test_plain_words_are_not_held_back(home, following) -> None:
    kept = PartialAnswers(home, redacting=True)
    add(kept, 7, 1, "The bearer of the tok")
    assert following.told() == [(1, "The bearer of the ", False)]
    add(kept, 7, 1, "en is here.\n日本")
    assert following.told() == [(1, "token is here.\n日本", False)]


def test_a_word_without_end_is_not_gathered_for_ever(home, following) -> None:
    kept = PartialAnswers(home, redacting=True)
    for _ in range(HELD // 1000 + 1):
        add(kept, 7, 1, "a1" * 500)
    assert not add(kept, 7, 1, "a word at last ")
    assert following.told() == []
