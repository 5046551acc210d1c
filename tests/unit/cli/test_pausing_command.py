"""`autopoll pause` and `resume` on a home that is down, with what people give them."""

import json
import time

import pytest
from prepared_home import Run

from autopoll.errors import Exit
from autopoll.home import operation_log
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.status import status
from autopoll.process import manual_pause, shard_pause
from autopoll.request import Failure


def test_a_pause_names_who_when_and_why_and_is_noted(run: Run, home: Home) -> None:
    code, out, _ = run("pause", "main", "--reason", "new \x1b[31mnotes\n come", "--json")
    made = json.loads(out)
    assert code == Exit.OK and made["shard"] == "main" and made["until"] is None
    assert made["by"] == operation_log.operator_name()
    assert (
        made["reason"] == "new \x1b[31mnotes come" and abs(made["since"] / 1000 - time.time()) < 60
    )
    shown = status(home, load(home, {})).shards[0].paused
    assert shown == made["words"] and shown.startswith(f"by {made['by']} since 20")
    assert "\x1b" not in run("status")[1]

    assert run("resume", "main")[0] == Exit.OK
    assert status(home, load(home, {})).shards[0].paused is None
    assert run("resume", "main") == (Exit.OK, "shard main is not paused\n", "")
    done = [(each.did, each.shard, each.by) for each in operation_log.read(home)]
    assert done == [("paused", "main", made["by"]), ("resumed", "main", made["by"])]


def test_a_second_pause_takes_the_place_of_the_first(run: Run, home: Home) -> None:
    run("pause", "main", "--reason", "first", "--for", "1h")
    run("pause", "main", "--reason", "second")
    found = manual_pause.read(home, "main")
    assert found and (found.reason, found.until) == ("second", None)


def test_a_pause_for_a_time_ends_by_itself(run: Run, home: Home) -> None:
    assert run("pause", "main", "--for", "0.05")[0] == Exit.OK
    end = time.monotonic() + 10
    while manual_pause.read(home, "main") and time.monotonic() < end:
        time.sleep(0.01)
    assert manual_pause.read(home, "main") is None
    assert run("resume", "main")[1] == "shard main is not paused\n"


def test_a_resume_ends_the_pause_of_a_service_and_leaves_that_of_a_budget(
    run: Run, home: Home
) -> None:
    refusal = Failure(kind="unavailable", message="none left", cause="quota")
    automatic = shard_pause.begin(home, "shard main", refusal, None)
    write = (home.pauses / "main").write_bytes
    import msgspec

    write(msgspec.json.encode(automatic))
    run("pause", "main")
    code, out, _ = run("resume", "main", "--json")
    assert code == Exit.OK and len(json.loads(out)["ended"]) == 2
    assert not (home.pauses / "main").exists()

    over = shard_pause.begin_until(
        home, "shard main", "budget", "9 of 8 used", automatic.until, None
    )
    write(msgspec.json.encode(over))
    run("pause", "main")
    code, out, _ = run("resume", "main")
    assert code == Exit.FAILED and "it was paused by" in out and "is paused budget until" in out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("pause",), Exit.USAGE, "SHARD"),
        (("pause", "nowhere"), Exit.DOWN, "there is no shard 'nowhere'"),
        (("pause", "../../etc"), Exit.DOWN, "there is no shard"),
        (("pause", ""), Exit.DOWN, "there is no shard ''"),
        (("pause", "main\x1b[2J"), Exit.DOWN, "there is no shard"),
        (("pause", "main", "--for", "soon"), Exit.USAGE, "duration"),
        (("pause", "main", "--for", "-1"), Exit.USAGE, "duration"),
        (("pause", "main", "--for", "0"), Exit.USAGE, "duration"),
        (("pause", "main", "--for", "99999999999d"), Exit.USAGE, "duration"),
        (("pause", "main", "other"), Exit.USAGE, "other"),
        (("resume", "nowhere"), Exit.DOWN, "there is no shard 'nowhere'"),
    ],
)
def test_what_cannot_be_paused_is_refused(
    run: Run, home: Home, args: tuple[str, ...], code: Exit, words: str
) -> None:
    got, _, err = run(*args)
    assert (got, words in err, len(err.splitlines()) <= 4) == (code, True, True)
    assert not list(home.manual_pauses.iterdir())


def test_a_pause_whose_file_cannot_be_read_holds(run: Run, home: Home) -> None:
    (home.manual_pauses / "main").write_bytes(b"\xff{")
    found = manual_pause.read(home, "main")
    assert found and "cannot be read" in found.words
    assert run("resume", "main")[0] == Exit.OK
    assert manual_pause.read(home, "main") is None


def test_what_was_done_is_kept_in_two_files_at_most(home: Home) -> None:
    for number in range(3000):
        operation_log.note(
            home, "paused", by="ann@here", shard="main", detail="x" * 450 + str(number)
        )
    files = [path for path in home.log.iterdir() if path.name.startswith("operations")]
    assert sum(path.stat().st_size for path in files) < 700_000
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    newest = operation_log.last(home, "paused")
    assert newest and newest.detail.endswith("2999")
