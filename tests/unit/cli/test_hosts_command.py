"""`autopoll hosts`, and what else shows the homes that share a bridge."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from answerers import answerer
from prepared_home import ECHO, Run

from autopoll.bridge.protocols import Bridge
from autopoll.errors import Exit
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.status import status
from autopoll.process import incident_log


def join(bridge: Bridge, number: int, **given: object) -> None:
    known = {"home": f"{number:032x}", "host": f"host-{number}", "folder": f"/home/{number}"}
    bridge.deliveries.take_over(answerer(f"owner {number}", **{**known, **given}), 60_000)


def test_a_line_each_with_what_they_serve(run: Run, bridge: Bridge) -> None:
    assert run("hosts") == (Exit.OK, "no home has answered yet\n", "")
    assert run("hosts", "--json") == (Exit.OK, "", "")
    join(bridge, 1, shards=["main", "logs"])
    join(bridge, 2, version="0.9")
    bridge.deliveries.leave("owner 2")
    code, out, err = run("hosts")
    assert (code, err) == (Exit.OK, "")
    heading, one, two = out.splitlines()
    assert heading.split("  ")[0] == "host"
    assert "00000000" in one and "main, logs" in one and " yes " in one
    assert "/home/2" in two and "0.9" in two and " no " in two
    lines = [json.loads(line) for line in run("hosts", "--json")[1].splitlines()]
    assert lines[0] | {"beat_age_ms": 0} == {
        "host": "host-1",
        "home": f"{1:032x}",
        "folder": "/home/1",
        "version": "1",
        "shards": ["main", "logs"],
        "beat_age_ms": 0,
        "alive": True,
        "in_flight": 0,
    }
    assert [each["alive"] for each in lines] == [True, False]


def test_status_shows_them_where_there_is_more_than_one(run: Run, bridge: Bridge) -> None:
    join(bridge, 1)
    assert "host-1" not in run("status")[1]
    join(bridge, 2)
    assert "host-1" in run("status")[1]
    shown = json.loads(run("status", "--json")[1])["hosts"]
    assert [each["host"] for each in shown] == ["host-1", "host-2"]
    assert shown == json.loads(json.dumps(shown))
    assert {*shown[0]} == {*json.loads(run("hosts", "--json")[1].splitlines()[0])}


def test_an_incident_names_its_host_and_an_earlier_one_none(run: Run, home: Home) -> None:
    old = {"at": "x", "process": "p", "verdict": "dead", "action": "a", "evidence": "e", "id": "1"}
    home.incidents.write_text(json.dumps(old) + "\n")
    incident_log.record(
        home.incidents, process="worker", verdict="dead", action="left", evidence="x"
    )
    shown = [json.loads(line) for line in run("incidents", "--json")[1].splitlines()]
    assert [each["host"] for each in shown] == ["", os.uname().nodename]


# --- what may be wrong


def sql(path: Path, text: str) -> None:
    db = apsw.Connection(str(path))
    db.execute(text)
    db.close()


def no_file(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_database(path: Path) -> None:
    path.write_bytes(b"x" * 8192)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    sql(path, "PRAGMA user_version=99")


def older(path: Path) -> None:
    sql(path, "PRAGMA user_version=3")


@pytest.mark.parametrize("spoil", [no_file, empty, no_database, a_folder, newer, older])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_bridge_that_cannot_be_read_is_named(
    run: Run, home: Home, spoil: Callable[[Path], None], as_json: bool
) -> None:
    for end in ("-wal", "-shm"):
        (home.var / f"bridge.db{end}").unlink(missing_ok=True)
    spoil(home.var / "bridge.db")
    code, out, err = run("hosts", *["--json"] * as_json)
    assert (code, out) == (Exit.DOWN, "")
    if as_json:
        assert json.loads(err).keys() == {"error", "mend"}
    else:
        assert err.startswith("autopoll: ") and "bridge.db" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["x"], "unexpected"),
        (["--watch"], "--watch"),
        (["--json=1"], "--json"),
        (["\udcff"], "UTF-8"),
    ],
)
def test_wrong_usage_is_named(run: Run, args: list[str], words: str) -> None:
    code, out, err = run("hosts", *args)
    assert (code, out) == (Exit.USAGE, "")
    assert words in err


def test_what_homes_say_of_themselves_cannot_drive_the_terminal(run: Run, bridge: Bridge) -> None:
    join(bridge, 1, host="\x1b[2J", folder="/x\n/y\u202e", version="\x07", shards=["a\tb", "\x9b"])
    _, out, _ = run("hosts")
    assert len(out.splitlines()) == 2
    assert not {"\x1b", "\u202e", "\x07", "\t", "\x9b"} & {*out}


def test_many_homes_with_long_names_are_shown_whole(run: Run, bridge: Bridge) -> None:
    for number in range(300):
        join(bridge, number, folder="/" + "long/" * 200, shards=[f"s{each}" for each in range(50)])
    assert len(run("hosts")[1].splitlines()) == 301
    assert len(run("hosts", "--json")[1].splitlines()) == 300


def test_an_unreachable_bridge_leaves_status_without_hosts(home: Home) -> None:
    home.config.write_text(ECHO)
    (home.var / "bridge.db").unlink()
    now = status(home, load(home, {}))
    assert now.hosts == [] and now.problems
