"""What waits, whose answer it is, a lost file of tokens, times, and what the system refuses."""

import errno
import json
import os
import re
import time
from contextlib import closing
from pathlib import Path

import pytest

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answered, BridgeLimits
from autopoll.cli import main
from autopoll.cli.error_text import error_text
from autopoll.clock import zoned
from autopoll.errors import Exit
from autopoll.home.bridge_url import BridgeUrl
from autopoll.message import Answer

ZONED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(?!\d|\.|:|Z)")

OWNER = "0" * 16


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "autopoll.toml").write_text('[shards.main]\nbackend = "echo"\n')
    assert main(["init"]) == Exit.OK
    return tmp_path


def bridge_of(home: Path) -> Bridge:
    return open_bridge(BridgeUrl("sqlite:///var/bridge.db"), home, BridgeLimits())


def take(bridge: Bridge) -> tuple[int, int]:
    [delivery] = bridge.deliveries.claim(OWNER, {"main": 9}, 60_000)
    return delivery.message_id, delivery.fence


def waiting(capsys: pytest.CaptureFixture[str], *args: str) -> list[int]:
    capsys.readouterr()
    assert main(["messages", "--unread", "--json", *args]) == Exit.OK
    return [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]


def test_unread_is_what_waits_and_not_the_answer_that_ask_fetches(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", "one", "--no-wait"]) == Exit.OK
    assert waiting(capsys) == [1]
    with closing(bridge_of(home)) as bridge:
        number, fence = take(bridge)
        assert waiting(capsys) == [1], "taken by a poller, and not answered"
        bridge.deliveries.settle(
            [Answered(message_id=number, fence=fence, answer=Answer(text="yes"))], OWNER
        )
    assert waiting(capsys) == []
    made = create(capsys)
    Path("a").write_text(made["tokens"]["a"])
    Path("a").chmod(0o600)
    assert main(["send", made["conversation"], "to a person", "--token-file", "a"]) == Exit.OK
    assert waiting(capsys) == [3]
    assert waiting(capsys, "--session", "a") == []


def test_the_answer_in_a_conversation_waits_for_its_reader(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = create(capsys, "--shard", "main")
    Path("a").write_text(made["tokens"]["a"])
    Path("a").chmod(0o600)
    assert main(["send", made["conversation"], "a question", "--token-file", "a"]) == Exit.OK
    with closing(bridge_of(home)) as bridge:
        number, fence = take(bridge)
        bridge.deliveries.settle(
            [Answered(message_id=number, fence=fence, answer=Answer(text="yes"))], OWNER
        )
    assert waiting(capsys) == [2]


def create(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["conversations", "create", "--json", *args]) == Exit.OK
    made: dict[str, object] = json.loads(capsys.readouterr().out)
    return made


def test_the_id_of_an_answer_names_its_question(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ask", "one", "--no-wait"])
    with closing(bridge_of(home)) as bridge:
        number, fence = take(bridge)
        bridge.deliveries.settle(
            [Answered(message_id=number, fence=fence, answer=Answer(text="yes"))], OWNER
        )
    capsys.readouterr()
    for args in (["answer", "2"], ["answer", "1", "2", "--no-wait", "--json"]):
        assert main(args) == Exit.DOWN
        said = capsys.readouterr()
        assert "message 2 is no question; it is the answer to question 1" in said.err
        assert "autopoll answer 1" in said.err
        assert said.out == ""
    assert main(["answer", "1"]) == Exit.OK


def test_a_lost_file_of_tokens_is_named_with_its_mend(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["init", "--json"])
    own = json.loads(capsys.readouterr().out)["conversation"]
    lost = home / "var" / "credentials"
    lost.unlink()
    for args in (["ask", "x"], ["inbox", own], ["send", own, "x"]):
        assert main(args) == Exit.DOWN
        said = capsys.readouterr().err
        assert f"{lost} is lost" in said
        assert "autopoll init" in said
        assert "autopoll conversations rotate" in said
    assert main(["init"]) == Exit.OK
    assert main(["ask", "x", "--no-wait"]) == Exit.OK
    assert main(["conversations", "rotate", own, "a"]) == Exit.OK


def test_a_home_without_any_conversation_has_lost_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "echo"\n[shards.new]\nbackend = "echo"\n'
    )
    assert main(["ask", "x", "--shard", "new"]) == Exit.DOWN
    assert "no conversation yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("2026-01-31T12:00:00.123456", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("never", "never"),
        ("", ""),
    ],
)
def test_a_time_is_shown_in_utc_and_says_so(stored: str, shown: str) -> None:
    assert zoned(stored) == shown


def test_no_time_is_shown_without_its_zone(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        main(["ask", "one", "--no-wait"])
        log = home / "var" / "log"
        (log / "supervisord.log").write_text("2026-01-01 12:00:00,123 INFO three\n")
        (log / "poller.log").write_text('{"at":"2026-01-01T06:00:00.000+00:00","text":"two"}\n')
        own = json.loads((home / "var" / "credentials").read_text())["shards"]["main"]
        capsys.readouterr()
        for args in (
            ["messages"], ["conversations", "list"], ["conversations", "show", own], ["logs"],
        ):  # fmt: skip
            assert main(args) == Exit.OK
            out = capsys.readouterr().out
            assert re.search(r"\d\dZ|\.\d{3}Z", out), out
            assert not ZONED.search(out), out
        main(["logs", "--json"])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        at = {line["process"]: line["at"] for line in lines}
        assert at["supervisord"] == "2026-01-01T06:30:00.123+00:00"
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, Exit.USAGE),
        (errno.EPERM, Exit.USAGE),
        (errno.EROFS, Exit.USAGE),
        (errno.ENOENT, Exit.DOWN),
        (errno.ENOSPC, Exit.DOWN),
        (errno.EDQUOT, Exit.DOWN),
        (errno.EMFILE, Exit.FAILED),
        (errno.ENOMEM, Exit.FAILED),
        (errno.EIO, Exit.FAILED),
    ],
)
def test_what_the_system_refuses_is_told_with_path_and_mend(number: int, code: Exit) -> None:
    what, mend, found = error_text(OSError(number, os.strerror(number), "/etc/shadow.d/x"))
    assert found == code
    assert what.startswith(f"/etc/shadow.d/x: {os.strerror(number)}")
    assert mend
    assert ("belongs to user 0" in what) == (number in (errno.EACCES, errno.EPERM))


def test_a_current_folder_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["status"]) == Exit.DOWN
    assert "the current folder has been removed" in capsys.readouterr().err
    os.chdir(tmp_path)
