"""Two homes on one bridge on PostgreSQL, as their users see them."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from hosts import home_on, up
from place import Place, until
from postgres_server import DatabaseServer

from autopoll.home.home import socket_path
from autopoll.process.supervisor_rpc import Supervisor

DATA = Path(__file__).parents[1] / "data"
MAIN = '[shards.main]\nbackend = "echo"\n'
OTHER = f"""{MAIN}
[shards.other]
backend = "command"
[shards.other.options]
command = ["{sys.executable}", "{DATA / "gated.py"}"]
"""


class Homes(NamedTuple):
    """One looks for the answers of the other only when it is notified; that one serves more."""

    one: Place
    two: Place


@pytest.fixture(scope="module")
def homes(postgres: DatabaseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        name = postgres.create_database()
        stack.callback(postgres.drop_database, name)
        url = postgres.url(name)
        one = home_on(folder / "one", url, MAIN, {"PYTHONPATH": str(DATA / "notified")})
        stack.callback(one.close)
        two = home_on(folder / "two", url, OTHER)
        stack.callback(two.close)
        up([one, two])
        yield Homes(one, two)


@pytest.mark.long
def test_what_only_another_home_serves_is_asked_there_and_its_asker_is_notified(
    homes: Homes,
) -> None:
    one, two = homes
    asking = one.start_ask("who knows?", "--shard", "other")
    two.busy("worker-other-1")
    # Its own poller has stored it, and nothing but a notification can end the wait now.
    assert [each["in_flight"] for each in one.json_lines("hosts")] == [0, 1]
    number = one.json_lines("messages", "--limit", "1")[0]["id"]
    waiting = one.json("trace", str(number))
    assert [each["state"] for each in waiting["events"]] == ["sent", "enrolled", "claimed"]
    assert waiting["waits"][0].startswith(f"the home {two.root} on ")
    there = two.json("trace", str(number))
    assert there["events"][-1]["worker"] == "worker-other-1"
    assert there["events"][-1]["pid"] == two.pid("worker-other-1")
    (two.root / "go").touch()
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    answered = json.loads(out)
    assert (answered["status"], answered["answer"], answered["shard"]) == (
        "answered", "who knows?", "other",
    )  # fmt: skip
    traced = one.json("trace", str(number))
    ends = [each for each in traced["events"] if each["state"] == "answered"]
    assert [(each["home"], each["worker"]) for each in ends] == [(str(two.root), "worker-other-1")]
    assert traced["clock"] == "the PostgreSQL server"
    assert f"incidents at the home {two.root} on " in traced["notes"][0]
    assert two.json("trace", str(number))["notes"] == []
    assert one.ask("and again?", "--shard", "other")["status"] == "answered"
    made = [each for each in one.json_lines("conversations", "list") if each["role_b"] == "other"]
    assert len(made) == 2, "one of each home, however often it asks"
    compared = one.json_lines("ask", "both?", "--shard", "main,other")
    assert {each["shard"]: each["status"] for each in compared} == {
        "main": "answered", "other": "answered",
    }  # fmt: skip
    refused = one.run("ask", "who?", "--shard", "other,nobody", code=2).stderr
    assert "there is no shard 'nobody'" in refused
    assert "There are: main, other." in refused


@pytest.mark.long
def test_each_home_shows_both(homes: Homes) -> None:
    for place in homes:
        shown = {Path(each["folder"]).name: each for each in place.json_lines("hosts")}
        assert {name: each["shards"] for name, each in shown.items()} == {
            "one": ["main"], "two": ["main", "other"],
        }  # fmt: skip
        assert all(each["alive"] for each in shown.values())
        assert place.json("status")["ready"]
        assert place.json("health", "--deep")["verdict"] == "ok"


@pytest.mark.long
def test_messages_between_the_homes_are_sent_read_and_answered(homes: Homes) -> None:
    one, two = homes
    (two.root / "go").touch()
    made = one.json("conversations", "create", "--role-a", "Ann", "--role-b", "Bob")
    conversation, tokens = made["conversation"], made["tokens"]
    one.environ["AUTOPOLL_TOKEN"], two.environ["AUTOPOLL_TOKEN"] = tokens["a"], tokens["b"]
    try:
        sent = one.json("send", conversation, "how are you?")["id"]
        [came] = two.json_lines("inbox", conversation)
        assert (came["id"], came["text"]) == (sent, "how are you?")
        assert two.json_lines("inbox", conversation) == []
        two.json("send", conversation, "well")
        found = one.json_lines("messages", "--conversation", conversation)
        assert [each["text"] for each in found] == ["how are you?", "well"]
        two.run("serve", conversation, "--shard", "other")
        asked = one.json("send", conversation, "and now?")["id"]
    finally:
        del one.environ["AUTOPOLL_TOKEN"], two.environ["AUTOPOLL_TOKEN"]
    assert one.json("answer", str(asked), "--timeout", "60")["answer"] == "and now?"


def test_while_its_own_worker_is_stopped_another_home_that_serves_the_shard_answers(
    homes: Homes,
) -> None:
    one, _ = homes
    own = Supervisor(socket_path(one.home))
    own.stop("worker:worker", wait=True)
    try:
        assert one.ask("who is there?")["answer"] == "who is there?"
        compared = one.json_lines("ask", "both?", "--shard", "main,main")
        assert {each["status"] for each in compared} == {"answered"}
    finally:
        own.start("worker:worker")


@pytest.mark.long
def test_what_is_asked_of_a_home_that_is_down_is_answered_when_it_is_up_again(
    homes: Homes,
) -> None:
    one, two = homes
    (two.root / "go").touch()
    two.run("down")
    assert [each["alive"] for each in one.json_lines("hosts")] == [True, False]
    asked = one.ask("later?", "--shard", "other", "--no-wait")["id"]
    assert one.ask("meanwhile?")["answer"] == "meanwhile?"
    assert one.json("answer", str(asked), "--no-wait")["status"] == "pending"
    two.run("up")
    assert one.json("answer", str(asked), "--timeout", "60")["answer"] == "later?"


def test_a_question_that_another_home_is_at_is_taken_back_from_here(homes: Homes) -> None:
    one, two = homes
    (two.root / "go").unlink(missing_ok=True)
    asking = one.start_ask("never mind?", "--shard", "other")
    two.busy("worker-other-1")
    [entry] = one.json_lines("queue", "--shard", "other")
    there = {each["folder"]: each["home"] for each in one.json_lines("hosts")}
    assert (entry["state"], entry["home"]) == ("leased", there[str(two.root)])
    done = one.json_lines("cancel", str(entry["id"]))
    assert [each["outcome"] for each in done] == ["cancelled"]
    out, _ = asking.communicate(timeout=60)
    assert "Cancelled by" in json.loads(out)["answer"]
    until(
        lambda: one.json("trace", str(entry["id"]))["events"][-1].get("worker") == "worker-other-1",
        what="the other home to have told who was at it",
    )
    (two.root / "go").touch()
    assert one.ask("and now?", "--shard", "other")["answer"] == "and now?"
    answers = [m for m in two.json_lines("messages", "--limit", "50") if "never mind" in m["text"]]
    assert len(answers) == 1, "the question alone: its worker's answer came to nothing"
