"""`autopoll dead`: dead letters shown, asked again and dropped, one by one or together."""

import json
from functools import partial

import pytest
from bridge_calls import OWN, ask, claim, failed, settle, talk
from prepared_home import Run

from autopoll.bridge.protocols import Bridge
from autopoll.errors import Exit
from autopoll.message import write_query


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "dead")


def bury(bridge: Bridge, *questions: str, shard: str = "main") -> list[int]:
    """Leave dead letters of these questions, and return their numbers."""
    conversation = talk(bridge, shard)
    texts = [write_query(question, "q-1") for question in questions]
    ids = ask(bridge, conversation, *texts, metadata=OWN)
    for each in claim(bridge, 100, shard):
        settle(bridge, failed(each, permanent=True))
    return ids


def left(bridge: Bridge) -> list[int]:
    return [each.message_id for each in bridge.overview.dead_letters()]


def test_the_question_is_shown_and_not_what_it_comes_in(run: Run, bridge: Bridge) -> None:
    long = "and so on \N{SNOWMAN} " * 20_000
    [one, two] = bury(bridge, "Why?", long)
    code, out, _ = run("list")
    assert code == Exit.OK
    assert "Why?" in out and "query_id" not in out and "and so on \N{SNOWMAN}" in out
    assert all(len(line) < 500 for line in out.splitlines())
    code, out, _ = run("show", str(one))
    assert code == Exit.OK
    for words in ("it broke", "attempts      1", "conv_", "\nWhy?\n"):
        assert words in out
    assert long.strip() in run("show", str(two))[1]
    [line, _] = run("list", "--json")[1].splitlines()
    assert json.loads(json.loads(line)["text"])["question"] == "Why?"


def test_several_are_asked_again_or_dropped_after_a_yes(run: Run, bridge: Bridge) -> None:
    ids = [str(each) for each in bury(bridge, *"abcdef")]
    code, out, err = run("retry", *ids[:2])
    assert (code, out) == (Exit.USAGE, "") and "--yes" in err and "2 dead letters" in err
    assert len(left(bridge)) == 6
    code, out, _ = run("retry", *ids[:2], ids[0], "--yes", "--json")
    assert code == Exit.OK
    made = [json.loads(line) for line in out.splitlines()]
    assert [each["retries"] for each in made] == [int(each) for each in ids[:2]]
    assert run("drop", ids[2])[0] == Exit.OK, "one alone needs no yes"
    code, out, _ = run("drop", "--all", "-y", "--json")
    dropped = [json.loads(line) for line in out.splitlines()]
    assert dropped == [{"id": int(each), "dropped": True} for each in ids[3:]]
    assert left(bridge) == []
    assert run("drop", "--all") == (Exit.OK, "no dead letters\n", "")


def test_those_of_a_shard_are_chosen(run: Run, bridge: Bridge) -> None:
    mine, others = bury(bridge, "a", "b"), bury(bridge, "c", shard="other")
    [listed] = run("list", "--shard", "other", "--json")[1].splitlines()
    assert json.loads(listed)["message_id"] == others[0]
    assert run("retry", "--shard", "main", "--yes")[0] == Exit.OK
    assert left(bridge) == others
    assert run("retry", str(mine[0]))[0] == Exit.DOWN
    assert run("drop", "--shard", "other")[0] == Exit.OK
    assert left(bridge) == []


def test_of_several_those_that_are_there_are_done_and_the_rest_is_named(
    run: Run, bridge: Bridge
) -> None:
    [one, two] = bury(bridge, "a", "b")
    code, out, err = run("drop", str(one), "4711", str(two), "--yes")
    assert code == Exit.DOWN
    assert out.count("dropped") == 2
    assert "no dead letter 4711" in err
    assert left(bridge) == []


@pytest.mark.parametrize(
    "args",
    [
        ["retry"], ["drop"], ["retry", "1", "--all"], ["drop", "--all", "--shard", "main"],
        ["drop", "0"], ["retry", "x"], ["retry", "1", "99999999999999999999"],
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_refused(run: Run, bridge: Bridge, args: list[str]) -> None:
    bury(bridge, "a")
    code, out, err = run(*args, "--yes")
    assert (code, out) == (Exit.USAGE, "") and err.startswith("autopoll: ")
    assert len(left(bridge)) == 1
