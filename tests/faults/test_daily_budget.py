"""A shard that has cost what it may cost in a day: its questions wait, and nothing is lost."""

import re

import pytest
from moods import CONFIG, answered, asked, incidents, kept, set_mood, shard, states
from place import until

pytestmark = pytest.mark.early

BUDGET = 'backend = "command"\ndaily_tokens = 1_000\n'
WORDS = r"budget until \d{4}-\d\d-\d\dT00:00:00Z: 1,200 of 1,000 tokens used today"


@pytest.mark.long
def test_a_used_up_budget_pauses_the_shard_until_it_is_raised_and_costs_no_attempt(
    new_place,
) -> None:
    config = CONFIG.replace('backend = "command"\n', BUDGET)
    place = new_place(config)
    place.run("up")
    worker = place.pid("worker")
    set_mood(place, "costs 600")
    first = place.ask("first?")
    assert first["usage"] == {
        "input_tokens": 0, "output_tokens": 600, "cached_tokens": 0, "cost_usd": 0.5,
    }  # fmt: skip
    assert shard(place)["paused"] is None
    place.ask("second?")

    assert re.fullmatch(WORDS, shard(place)["paused"])
    assert shard(place)["usage_today"] == {
        "input_tokens": 0, "output_tokens": 1200, "cached_tokens": 0, "cost_usd": 1.0,
        "answers": 2,
    }  # fmt: skip
    assert "1,200 tokens, $1.00" in place.run("status", code=1).stdout
    assert "1,200 tokens, $1.00" in place.run("shards", "list").stdout
    [incident] = incidents(place)
    assert (incident["verdict"], incident["action"]) == ("budget", "paused")
    assert re.fullmatch(WORDS, incident["evidence"])
    told = place.run("ask", "third?", "--timeout", "2500ms", code=5).stderr
    assert re.search(f"is kept: shard main is paused, {WORDS}", told)
    questions = kept(place, "fourth?")

    # Neither a new poller nor a new worker is a reason to spend more.
    old = place.kill("poller")
    until(lambda: (beat := place.beat("poller")) and beat.pid != old and beat.state == "idle")
    place.run("restart", "worker")
    place.ready("worker")
    assert re.fullmatch(WORDS, shard(place)["paused"])
    assert states(place, questions) == {("ready", 0)}
    assert asked(place) == ["first?", "second?"]

    worker = place.pid("worker")
    (place.root / "autopoll.toml").write_text(config.replace("1_000", "2_000"))
    place.run("reload")
    answered(place, questions)
    assert asked(place) == ["first?", "second?", "third?", "fourth?"]
    assert place.pid("worker") == worker, "a budget is nothing to start a worker anew for"
    assert incidents(place, verdict="budget")[0]["recovered_ms"] is not None


@pytest.mark.long
def test_what_fails_is_counted_and_who_ends_the_pause_by_hand_is_obeyed(new_place) -> None:
    place = new_place(CONFIG.replace('backend = "command"\n', BUDGET))
    place.run("up")
    set_mood(place, "fails for 600")
    [question] = kept(place, "why?")
    until(lambda: (words := shard(place)["paused"]) and re.fullmatch(WORDS, words))
    assert asked(place) == ["why?"] * 2
    set_mood(place, "costs 600")
    (place.home.pauses / "main").unlink()
    until(lambda: states(place, [question]) == {("done", 3)}, what="the answer")
    place.ask("and now?")
    assert shard(place)["paused"] is None
    assert shard(place)["usage_today"]["output_tokens"] == 2400
