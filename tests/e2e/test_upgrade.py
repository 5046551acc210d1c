"""A home that an earlier version made goes on working: what waited, was kept, and is added."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from place import Place

# Made by version 0.1.0 of November 2026, when all modules lay flat, and stopped by its `down`: a
# gateway, a shard that `shards add` wrote into autopoll.toml, one that answers with an error, a
# conversation of others, an incident, and two questions that were asked afterwards.
EARLIER = Path(__file__).parents[1] / "data" / "earlier_home.tar.gz"
WAITING = {13: "Who waits?", 14: "And the tulip?"}
DEAD = 7
FOREIGN = "conv_8e60b462d9ce5b7a"
OPERATOR = "1a1363dedcb3e6429039dd32f4b9ea02dd5e6ef2d1decc334c134e703d32d16d"


def earlier_home(root: Path) -> Place:
    shutil.unpack_archive(EARLIER, root)
    place = Place(root, None)
    # Whenever the tests are run, nothing of November 2026 is too old for them.
    for kind in ("ANSWERED", "AUDIT", "INCIDENTS"):
        place.environ[f"AUTOPOLL_RETENTION__{kind}"] = "forever"
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for the tests that leave its shards as they are."""
    with earlier_home(tmp_path_factory.mktemp("upgrade") / "home").running() as place:
        yield place


def test_what_waited_when_it_was_stopped_is_answered(place: Place) -> None:
    answers = [
        json.loads(line)
        for line in place.run("answer", *map(str, WAITING), "--json").stdout.splitlines()
    ]
    assert [answer["status"] for answer in answers] == ["answered", "answered"]
    assert answers[0]["answer"] == WAITING[13]
    assert answers[1]["sources"] == ["docs/notes.md:1-3"]


def test_its_shards_answer_and_its_own_conversations_go_on(place: Place) -> None:
    assert "yellow" in place.ask("Which hue has the tulip?")["answer"]
    assert place.ask("hello", "--shard", "extra")["answer"] == "hello"
    shards = {shard["name"]: shard for shard in place.json("status")["shards"]}
    assert set(shards) == {"main", "extra", "refuser"}
    assert place.json("health", "--deep")["verdict"] == "ok"


def test_dead_letters_incidents_and_earlier_answers_are_still_there(place: Place) -> None:
    assert place.ask("And you?", "--shard", "refuser", code=1)["status"] == "error"
    assert DEAD in [letter["message_id"] for letter in place.json_lines("dead", "list")]
    assert place.json("answer", str(DEAD), code=1)["status"] == "error"
    assert "worker-extra-1" in [each["process"] for each in place.json_lines("incidents")]


def test_what_it_had_answered_and_what_it_left_waiting_is_traced(place: Place) -> None:
    before = place.json("trace", str(DEAD))
    assert [each["state"] for each in before["events"]] == ["sent", "enrolled", "dead"]
    assert before["notes"]
    place.json_lines("answer", *map(str, WAITING))
    waited = place.json("trace", "13")
    assert [each["state"] for each in waited["events"] if each["state"] != "incident"][2:] == [
        "claimed", "dispatched", "progress", "answered",
    ]  # fmt: skip
    assert place.run("trace", str(DEAD)).stdout.startswith(f"{DEAD}: dead, shard refuser, ")


def test_a_foreign_conversation_and_the_operator_keep_their_tokens(place: Place) -> None:
    token = place.json("conversations", "rotate", FOREIGN, "a")["token"]
    transport = httpx.HTTPTransport(uds=str(place.home.run / "gateway.sock"))
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        assert client.get("/v1/status", headers=headers).status_code == 200
        headers = {"Authorization": f"Bearer {token}"}
        shown = client.get(f"/v1/conversations/{FOREIGN}/messages", headers=headers)
    assert "ping from alice" in shown.text


@pytest.mark.long
def test_a_shard_is_added_to_it_and_the_one_from_its_settings_is_removed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # Not tmp_path: its sockets lie in the home, as they did where it was made.
    with earlier_home(tmp_path_factory.mktemp("added") / "home").running() as place:
        place.run("shards", "add", "new", "--backend", "echo")
        assert place.ask("hi", "--shard", "new")["answer"] == "hi"
        place.run("shards", "remove", "extra")
        text = (place.root / "autopoll.toml").read_text()
        assert "[shards.extra]" not in text
        assert text.startswith("# a home of the days before shards had files of their own\n")
        place.run("restart")
        shards = {shard["name"] for shard in place.json("status")["shards"]}
        assert shards == {"main", "refuser", "new"}
        assert place.ask("still there?", "--shard", "new")["answer"] == "still there?"
