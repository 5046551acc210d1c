"""Programs that know only the legacy tables keep working on the same file at the same time."""

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import legacy
import pytest
from place import Place, until


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One home for all; each test has a conversation of its own in it."""
    with Place(tmp_path_factory.mktemp("legacy") / "home").running() as place:
        yield place


def test_a_legacy_question_is_answered_the_legacy_way_at_once_without_a_bell(
    place,
) -> None:
    client = legacy.Legacy(place.root / "var" / "bridge.db")
    conversation = client.converse("conv_0123456789abcdef")
    place.run("serve", conversation, "--session", "b", "--shard", "main")
    client.insert(conversation, "warm?")
    assert client.await_answer(conversation) == "warm?"
    took = []
    for number in range(15):
        start = time.perf_counter()
        client.insert(conversation, f"what is {number}?")
        assert client.await_answer(conversation) == f"what is {number}?"
        took.append((time.perf_counter() - start) * 1000)
    assert statistics.median(took) < 500, "as if it had waited for the poll once a second"


def test_a_legacy_json_query_gets_a_json_response_with_its_query_id(place) -> None:
    client = legacy.Legacy(place.root / "var" / "bridge.db")
    conversation = client.converse("conv_00000000000000aa")
    place.run("serve", conversation, "--shard", "main")
    client.insert(conversation, json.dumps({"type": "query", "query_id": 7, "question": "why?"}))
    response = json.loads(client.await_answer(conversation))
    assert response["type"] == "response"
    assert response["query_id"] == 7
    assert response["answer"] == "why?"
    assert response["shard_id"] == "main"


def test_responses_status_and_heartbeats_are_never_answered(place) -> None:
    client = legacy.Legacy(place.root / "var" / "bridge.db")
    conversation = client.converse("conv_00000000000000bb")
    place.run("serve", conversation, "--shard", "main")
    for kind in ("response", "status", "heartbeat"):
        client.insert(conversation, json.dumps({"type": kind, "answer": "x"}))
    client.insert(conversation, "a question after them")
    assert client.await_answer(conversation) == "a question after them"
    assert client.take(conversation, "a") == []


@pytest.mark.long
def test_a_legacy_partner_sees_the_served_session_as_alive(place) -> None:
    client = legacy.Legacy(place.root / "var" / "bridge.db")
    conversation = client.converse("conv_00000000000000cc")
    place.run("serve", conversation, "--shard", "main")
    status = until(
        lambda: client.db.execute(
            "SELECT status FROM session_status WHERE conversation_id=? AND session_id='b'",
            (conversation,),
        ).fetchone()
    )
    assert status[0]


def test_with_a_legacy_reader_on_the_same_session_nothing_is_lost_and_nothing_answered_twice(
    place,
) -> None:
    path = place.root / "var" / "bridge.db"
    client = legacy.Legacy(path)
    conversation = client.converse("conv_00000000000000dd")
    place.run("serve", conversation, "--shard", "main")
    count = 400
    program = Path(legacy.__file__)
    rival = subprocess.Popen(
        [sys.executable, str(program), str(path), conversation, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for number in range(count):
        client.insert(conversation, f"question {number}")
    out, _ = rival.communicate(timeout=60)
    assert rival.returncode == 0

    got: Counter[str] = Counter()

    def complete() -> bool:
        got.update(text.removeprefix("rival: ") for _, text in client.take(conversation, "a"))
        return sum(got.values()) >= count

    until(complete, 30, "all answers")
    assert got == Counter({f"question {number}": 1 for number in range(count)})
    assert json.loads(out)["taken"] >= 0
