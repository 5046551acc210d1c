"""`autopoll trace` as people read it, at every width."""

import os
from contextlib import closing

import pytest
from bridge_calls import USED, answered, ask, claim_one, costing, settle, talk
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.cli import main
from autopoll.errors import Exit
from autopoll.home.config import load
from autopoll.home.home import Home


@pytest.fixture
def home(tmp_path) -> Home:
    home = prepared_home(tmp_path)
    with closing(connect(home, load(home, {}))) as bridge:
        conversation = talk(bridge)
        ask(bridge, conversation, "Why \x1b[2J is it so?", "And now?")
        settle(bridge, costing(answered(claim_one(bridge)), USED))
    return home


def test_a_trace_is_a_timeline_with_a_headline(home: Home, capsys) -> None:
    assert main(["trace", "1", "--home", str(home.root)]) == Exit.OK
    headline, question, clock, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert headline.startswith("1: answered, shard main, 1 attempt, ")
    assert question == "Why \\x1b[2J is it so?"
    assert clock.endswith(", UTC by the clock of this host")
    assert heading.split() == ["at", "after", "state", "detail"]
    assert [line.split()[2] for line in lines[1:3]] == ["enrolled", "answered"]
    assert "3,120 tokens, $0.5000" in lines[2]


@pytest.mark.parametrize(("width", "table"), [(20, False), (40, False), (80, True), (200, True)])
def test_where_it_is_narrow_each_detail_has_a_line_of_its_own(
    home: Home, capsys, monkeypatch: pytest.MonkeyPatch, width: int, table: bool
) -> None:
    monkeypatch.setattr("autopoll.cli.trace.is_terminal", lambda _: True)
    monkeypatch.setattr("autopoll.cli.render.is_terminal", lambda _: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((width, 24)))
    assert main(["trace", "1", "--home", str(home.root)]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert ("  for shard main" in lines) is not table
    assert any(line.split() and line.split()[-1] == "enrolled" for line in lines) is not table


def test_what_waits_says_why_and_what_to_type(home: Home, capsys) -> None:
    assert main(["trace", "2", "--home", str(home.root)]) == Exit.OK
    assert "this home is down. Start it: autopoll up" in capsys.readouterr().out


def test_what_is_not_there_is_not_found(home: Home, capsys) -> None:
    assert main(["trace", "99", "--home", str(home.root)]) == Exit.DOWN
    assert capsys.readouterr().err.startswith("autopoll: there is no message 99\n")
