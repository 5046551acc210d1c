"""What a program does over REST with a home that runs."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from bridge_calls import send
from doors import HEADERS, Door
from place import until
from prometheus_client.parser import text_string_to_metric_families

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.clock import wall_ms
from autopoll.errors import RateLimited
from autopoll.home import credentials
from autopoll.home.bridge_url import BridgeUrl
from autopoll.message import answered_by


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("rest"))
    try:
        door.place.run("up")
        yield door
    finally:
        door.open_gate()
        door.place.close()


@pytest.fixture
def operator(door: Door) -> Iterator[httpx.Client]:
    door.open_gate()
    with door.client() as client:
        yield client


def conversation(operator: httpx.Client, **more: str) -> dict[str, str]:
    """Create a conversation whose session b the quick shard answers; return its tokens."""
    answer = operator.post("/v1/conversations", json={"shard": "echo", **more})
    assert answer.status_code == 201
    tokens: dict[str, str] = answer.json()
    return tokens


def ask(client: httpx.Client, question: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return client.post("/v1/questions", json={"question": question, **more}, headers=headers)


WAIT = {"Prefer": "wait=30"}


# --- asking


def test_a_question_that_is_waited_for_comes_back_with_its_answer(operator) -> None:
    answer = ask(operator, "Really?", headers=WAIT)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    told = answer.json()
    assert (told["status"], told["shard"]) == ("answered", "main")
    assert told["answer"] == "you asked: Really?"
    assert operator.get(answer.headers["location"]).json() == told


def test_a_question_is_stored_at_once_and_its_answer_is_waited_for_later(operator) -> None:
    stored = ask(operator, "Later?", shard="echo")
    assert stored.status_code == 202
    assert stored.json()["status"] in ("pending", "answered")
    answer = operator.get(stored.headers["location"], headers=WAIT)
    assert (answer.status_code, answer.json()["answer"]) == (200, "Later?")


def test_a_wait_that_is_too_short_says_where_the_question_is(door, operator) -> None:
    door.open_gate(False)
    pending = ask(operator, "slow", headers={"Prefer": "respond-async, wait=0"})
    assert (pending.status_code, pending.json()["status"]) == (202, "pending")
    where = pending.headers["location"]
    still = operator.get(where, headers={"Prefer": "wait=0"})
    assert (still.status_code, still.json()["status"]) == (200, "pending")
    door.open_gate()
    assert operator.get(where, headers=WAIT).json()["answer"] == "you asked: slow"


def test_a_client_that_goes_away_waits_no_longer_and_its_question_is_answered(
    door, operator
) -> None:
    door.open_gate(False)

    def waiting() -> float:
        text = operator.get("/metrics").text
        [line] = [each for each in text.splitlines() if each.startswith("autopoll_gateway_wait")]
        return float(line.split()[-1])

    with pytest.raises(httpx.ReadTimeout), door.client() as client:
        client.timeout = httpx.Timeout(0.3)
        ask(client, "gone?", headers={**WAIT, "Idempotency-Key": "gone"})
    until(lambda: waiting() == 0, what="nobody to wait any more")
    door.open_gate()
    again = ask(operator, "gone?", headers={**WAIT, "Idempotency-Key": "gone"})
    assert again.json()["answer"] == "you asked: gone?"
    assert again.headers["idempotency-replayed"] == "true"


# --- keys


def test_the_same_key_stands_for_the_same_question(operator) -> None:
    key = {"Idempotency-Key": "order-66", **WAIT}
    first, second = ask(operator, "once", headers=key), ask(operator, "once", headers=key)
    assert first.json() == second.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


def test_a_key_for_another_question_is_refused(operator) -> None:
    key = {"Idempotency-Key": "taken"}
    ask(operator, "one", headers=key)
    refused = ask(operator, "another", headers=key)
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:autopoll:problem:key-reused"


def test_two_who_use_the_same_key_ask_two_questions(door, operator) -> None:
    numbers = set()
    for _ in range(2):
        with door.client(conversation(operator)["a"]) as client:
            numbers.add(ask(client, "mine", headers={"Idempotency-Key": "same"}).json()["id"])
    assert len(numbers) == 2


def test_of_many_at_once_under_one_key_there_is_one_question(door) -> None:
    numbers: list[int] = []

    def repeat() -> None:
        with door.client() as client:
            answer = ask(client, "at once", headers={"Idempotency-Key": "race", **WAIT})
            numbers.append(answer.json()["id"])

    door.open_gate()
    threads = [threading.Thread(target=repeat) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(numbers) == 8
    assert len(set(numbers)) == 1


# --- following


@contextmanager
def following(client: httpx.Client, number: int, **headers: str) -> Iterator[Iterator[tuple]]:
    """Yield the events of a question as (kind, id, data)."""
    with client.stream("GET", f"/v1/questions/{number}/events", headers=headers) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")

        def events() -> Iterator[tuple]:
            fields: dict[str, str] = {}
            for line in stream.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields.get("id"), json.loads(fields["data"])
                    fields = {}
                else:
                    fields = {}

        yield events()


def test_whoever_follows_a_question_is_told_each_step_each_piece_and_the_answer(
    door, operator
) -> None:
    door.open_gate(False)
    number = ask(operator, "told word by word").json()["id"]
    seen = []
    with following(operator, number) as events:
        for kind, _, data in events:
            seen.append((kind, data))
            if data.get("state") == "leased":
                door.open_gate()
    kinds = [kind for kind, _ in seen]
    assert kinds[0] == "progress"
    assert kinds[-1] == "answer"
    text = "".join(data["text"] for kind, data in seen if kind == "piece")
    assert text, "no piece was told"
    assert "told word by word ".startswith(text)
    assert seen[-1][1]["answer"] == "you asked: told word by word"


def test_whoever_was_cut_off_follows_again_and_gets_the_answer(operator) -> None:
    number = ask(operator, "again?", shard="echo", headers=WAIT).json()["id"]
    for last in ("", "17-leased-1", "anything at all"):
        with following(operator, number, **{"Last-Event-ID": last}) as events:
            [(kind, _, data)] = list(events)
        assert (kind, data["answer"]) == ("answer", "again?")


# --- whose is what


def test_another_conversations_token_finds_nothing_and_is_audited(door, operator) -> None:
    mine, other = conversation(operator), conversation(operator)
    with door.client(mine["a"]) as client:
        number = ask(client, "secret", headers=WAIT).json()["id"]
    with door.client(other["a"]) as stranger:
        for path in ("/v1/questions/{}", "/v1/questions/{}/events", "/v1/questions/{}/trace"):
            found = stranger.get(path.format(number))
            absent = stranger.get(path.format(10**9))
            assert found.status_code == absent.status_code == 404
            assert found.text.replace(str(number), "N") == absent.text.replace(str(10**9), "N")
        for method, path in (
            ("GET", ""), ("GET", "/messages"), ("GET", "/status"), ("POST", "/inbox"),
        ):  # fmt: skip
            whole = "/v1/conversations/{}" + path
            found = stranger.request(method, whole.format(mine["conversation"]))
            absent = stranger.request(method, whole.format("conv_0123456789abcdef"))
            assert found.status_code == absent.status_code == 404, path
            cut = {mine["conversation"]: "N", "conv_0123456789abcdef": "N"}
            one, two = found.text, absent.text
            for text, name in cut.items():
                one, two = one.replace(text, name), two.replace(text, name)
            assert one == two
        sent = stranger.post(
            f"/v1/conversations/{mine['conversation']}/messages", json={"text": "let me in"}
        )
        assert sent.status_code == 404
        asked = ask(stranger, "let me in", conversation=mine["conversation"])
        assert asked.status_code == 404
    assert (other["conversation"], "not for this token") in door.denials()
    messages = operator.get(f"/v1/conversations/{mine['conversation']}/messages").json()
    assert "let me in" not in json.dumps(messages)


def test_a_conversations_token_sees_no_operation(door, operator) -> None:
    tokens = conversation(operator)
    with door.client(tokens["a"]) as client:
        paths = client.get("/openapi.json").json()["paths"]
        operations = {
            (method, re.sub(r"{.*?}", "1", path))
            for path, methods in paths.items()
            for method, each in methods.items()
            if "operation" in each["tags"] and path != "/v1/questions/{question}/cancel"
        }
        assert {("get", "/v1/queue"), ("post", "/v1/shards/1/pause")} < operations
        for method, path in (*operations, ("get", "/v1/conversations")):
            answer = client.request(method, path)
            assert answer.status_code == 403, (method, path)
        assert client.post("/v1/conversations", json={}).status_code == 403
        refused = ask(client, "no", shard="main")
        assert (refused.status_code, refused.json()["title"]) == (422, "Unusable")
    assert (tokens["conversation"], "needs the operator's token") in door.denials()


@pytest.mark.long
def test_a_wrong_token_opens_nothing_and_is_audited(door, operator) -> None:
    revoked = conversation(operator)
    door.place.run("conversations", "revoke", revoked["conversation"], "a")
    for token in ("x", "0" * 64, "ü", revoked["a"], f"sha256${'0' * 64}"):
        shown = {"Authorization": b"Bearer " + token.encode()}
        for path in ("/v1/questions/1", "/v1/status", "/metrics", "/v1/conversations/conv_x"):
            answer = httpx.get(f"{door.url}{path}", headers=shown)
            assert answer.status_code == 401, (token, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert token not in answer.text
    assert httpx.get(f"{door.url}/v1/status").status_code == 401
    until(
        lambda: {"unknown token", "no token"} <= {why for _, why in door.denials()},
        what="both to be audited",
    )
    assert len(door.denials()) < 40, "a stranger can fill the disk"


def test_no_token_is_in_any_log(door, operator) -> None:
    tokens = conversation(operator)
    with door.client(tokens["a"]) as client:
        ask(client, "secretive", headers=WAIT)
    for path in (door.place.root / "var" / "log").iterdir():
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            assert door.token not in text, path
            assert tokens["a"] not in text, path


def test_a_token_that_another_bridge_program_made_is_good_where_its_conversation_is_named(
    door, operator
) -> None:
    made, clear = conversation(operator)["conversation"], "cd" * 32
    database = apsw.Connection(str(door.place.root / "var" / "bridge.db"))
    database.set_busy_timeout(5000)
    database.execute("UPDATE conversations SET session_a_token=? WHERE id=?", (clear, made))
    database.close()
    with door.client(clear) as client:
        assert client.get(f"/v1/conversations/{made}/messages").status_code == 200
        assert client.get("/v1/questions/1").status_code == 401


# --- the bare bridge


def test_two_sessions_talk_and_see_each_other(door, operator) -> None:
    tokens = operator.post("/v1/conversations", json={"role_a": "x", "role_b": "y"}).json()
    where = f"/v1/conversations/{tokens['conversation']}"
    with door.client(tokens["a"]) as a, door.client(tokens["b"]) as b:
        assert a.put(f"{where}/status", json={"status": "writing"}).status_code == 204
        sent = a.post(f"{where}/messages", json={"text": "hello", "metadata": {"n": 1}})
        assert sent.status_code == 201
        looked = b.get(f"{where}/messages", params={"unread": True}).json()["messages"]
        assert [each["text"] for each in looked] == ["hello"]
        taken = b.post(f"{where}/inbox").json()["messages"]
        assert [(each["id"], each["text"]) for each in taken] == [(sent.json()["id"], "hello")]
        assert b.post(f"{where}/inbox").json()["messages"] == []
        assert a.get(f"{where}/messages", params={"after": sent.json()["id"]}).json() == {
            "messages": []
        }
        states = {each["session"]: each for each in b.get(f"{where}/status").json()["sessions"]}
        assert (states["a"]["status"], states["a"]["alive"]) == ("writing", True)
        assert states["b"]["status"] == "unknown"
        assert a.get(where).json()["role_b"] == "y"


def test_a_message_into_a_served_conversation_is_answered(door, operator) -> None:
    tokens = conversation(operator)
    where = f"/v1/conversations/{tokens['conversation']}"
    with door.client(tokens["a"]) as client:
        client.post(f"{where}/messages", json={"text": "hello"})
        answer = until(lambda: client.post(f"{where}/inbox").json()["messages"])
        assert answer[0]["text"] == "hello"
    with door.client(tokens["b"]) as shard:
        refused = shard.post(f"{where}/inbox")
        assert refused.status_code == 422


def test_the_operator_speaks_where_the_home_does_and_nowhere_else(door, operator) -> None:
    own = credentials.read(door.place.home).shards["echo"]
    asked = ask(operator, "as the home", conversation=own, headers=WAIT)
    assert asked.json()["answer"] == "as the home"
    assert operator.post(f"/v1/conversations/{own}/messages", json={"text": "x"}).status_code == 201
    foreign = conversation(operator)["conversation"]  # its tokens are kept by whoever made it
    refused = operator.post(f"/v1/conversations/{foreign}/messages", json={"text": "x"})
    assert refused.status_code == 404
    assert "keeps no token" in refused.json()["detail"]
    assert operator.get(f"/v1/conversations/{foreign}/messages").json() == {"messages": []}


def test_who_sends_too_fast_is_told_when_to_go_on(door, operator) -> None:
    tokens = conversation(operator)
    limits = BridgeLimits(rate_per_s=2.0, rate_burst=400)
    other = open_bridge(BridgeUrl("sqlite:///var/bridge.db"), door.place.root, limits)
    with closing(other) as bridge, door.client(tokens["a"]) as client:

        def slowed() -> httpx.Response | None:
            with suppress(RateLimited):
                for count in (400, *[1] * 100):  # until nothing more is taken
                    send(bridge, tokens["conversation"], "a", *"x" * count)
            answer = ask(client, "too fast")
            return answer if answer.status_code == 429 else None

        assert int(until(slowed).headers["retry-after"]) >= 1


# --- operation


def test_the_operator_sees_what_the_command_line_shows(door, operator) -> None:
    status = operator.get("/v1/status").json()
    assert {each["name"]: each["role"] for each in status["processes"]}["gateway"] == "gateway"
    assert set(status) == set(door.place.json("status"))
    shards = operator.get("/v1/shards").json()["shards"]
    assert {each["name"] for each in shards} == {"main", "echo"}
    assert operator.get("/readyz").json() == {"ok": True}
    assert operator.get("/v1/incidents", params={"last": 5}).status_code == 200
    [shown] = operator.get("/v1/hosts").json()["hosts"]
    assert shown["host"] == os.uname().nodename and shown["alive"]
    assert {each["host"] for each in status["hosts"]} == {shown["host"]}
    ours = (("home", shown["home"]), ("host", shown["host"]))
    assert metrics(operator)["autopoll_home_up", ours] == 1


def test_prometheus_reads_of_each_home_whether_it_lives_and_what_it_is_answering(
    door, operator
) -> None:
    seen = wall_ms() - 60_000
    with closing(apsw.Connection(str(door.place.root / "var" / "bridge.db"))) as database:
        database.set_busy_timeout(5000)
        database.execute(
            "INSERT INTO pollers(owner,home,host,version,beat_at,beat_until) VALUES(?,?,?,?,?,?)",
            ("another", "a" * 32, "elsewhere", "1", seen, seen + 1),
        )
    [ours] = [each for each in operator.get("/v1/hosts").json()["hosts"] if each["alive"]]
    us, them = (
        (("home", home), ("host", host))
        for home, host in ((ours["home"], ours["host"]), ("a" * 32, "elsewhere"))
    )
    door.open_gate(False)
    ask(operator, "waits")
    until(lambda: metrics(operator)["autopoll_home_in_flight", us] == 1, what="it in flight")
    now = metrics(operator)
    assert (now["autopoll_home_up", us], now["autopoll_home_up", them]) == (1, 0)
    assert now["autopoll_home_in_flight", them] == 0
    assert 60 <= now["autopoll_home_beat_age_seconds", them] < 120
    assert now["autopoll_home_beat_age_seconds", us] < 60


def test_a_dead_letter_is_listed_retried_and_dropped(operator) -> None:
    failed = ask(operator, "hopeless case", headers=WAIT)
    assert (failed.status_code, failed.json()["status"]) == (200, "error")
    number = failed.json()["id"]
    listed = operator.get("/v1/dead-letters").json()["dead_letters"]
    assert number in [each["message_id"] for each in listed]
    assert operator.get(f"/v1/dead-letters/{number}").json()["shard"] == "main"
    again = operator.post(f"/v1/dead-letters/{number}/retry")
    assert again.status_code == 201
    retried = operator.get(again.headers["location"], headers=WAIT).json()
    assert retried["status"] == "error"
    assert operator.post(f"/v1/dead-letters/{number}/retry").status_code == 404
    assert operator.delete(f"/v1/dead-letters/{retried['id']}").status_code == 204
    assert operator.get(f"/v1/dead-letters/{retried['id']}").status_code == 404


def metrics(client: httpx.Client) -> dict[tuple[str, tuple], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_prometheus_reads_what_waits_what_was_answered_and_what_it_cost(door, operator) -> None:
    before = metrics(operator)
    ask(operator, "counted", headers=WAIT)
    door.open_gate(False)
    ask(operator, "waits")
    main = (("shard", "main"),)
    flight = ("autopoll_in_flight", main)
    until(lambda: metrics(operator)[flight] == 1, what="the question to be in flight")
    now = metrics(operator)
    assert now["autopoll_queue_depth", (*main, ("state", "leased"))] == 1
    assert now["autopoll_oldest_question_age_seconds", main] > 0
    for name in ("autopoll_attempts_total", "autopoll_answer_latency_seconds_count"):
        assert now[name, main] == before.get((name, main), 0) + 1
    answered = ("autopoll_answers_total", (("outcome", "answered"), *main))
    assert now[answered] == before.get(answered, 0) + 1
    tokens = ("autopoll_tokens_total", (("kind", "output"), *main))
    assert now[tokens] == before.get(tokens, 0) + 3
    buckets = [
        value for (name, labels), value in now.items()
        if name.endswith("_bucket") and ("shard", "main") in labels
    ]  # fmt: skip
    assert buckets == sorted(buckets)
    assert buckets[-1] == now["autopoll_answer_latency_seconds_count", main]
    door.open_gate()
    until(lambda: metrics(operator)[flight] == 0, what="the question to be answered")


# --- ugly input


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"question": ""}', 422),
        (b'{"question": "  \\n "}', 422),
        (b'{"question": 7}', 422),
        (b'{"question": "a\\u0000b"}', 422),
        (b'{"question": "\\ud800"}', 422),
        (b'{"question": "x", "shard": "nobody"}', 404),
        (b'{"question": "x", "shard": "main", "conversation": "conv_x"}', 422),
        (b'{"question": "x", "conversation": "conv_x"}', 404),
        (b'{"question": "x", "qeustion": "y"}', 422),
        (b'{"question": "\xff"}', 400),
        (b"[" * 9000, 400),
        (b'{"question": "x", "question_id": ' + b"9" * 5000 + b"}", 400),
    ],
)
def test_what_is_no_question_is_refused_with_what_to_do(operator, body, status) -> None:
    answer = operator.post("/v1/questions", content=body, headers=HEADERS)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["detail"]


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, "ü".encode()])
def test_what_is_no_key_is_refused(operator, key) -> None:
    answer = ask(operator, "x", headers={"Idempotency-Key": key})
    assert answer.status_code == 422


LARGEST = 2**63 - 1  # that the bridge can count to


@pytest.mark.parametrize("number", ["x", "0", "-1", "1.5", str(LARGEST + 1), "9" * 23])
def test_what_is_no_number_is_refused(operator, number) -> None:
    for path in (f"/v1/questions/{number}", f"/v1/dead-letters/{number}"):
        assert operator.get(path).status_code == 422, path


def test_the_largest_number_is_taken_and_there_is_nothing_of_it_and_beyond(door, operator) -> None:
    for path, noun in (("questions", "question"), ("dead-letters", "dead letter")):
        answer = operator.get(f"/v1/{path}/{LARGEST}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"there is no {noun} {LARGEST}"
    own = credentials.read(door.place.home).shards["echo"]
    beyond = operator.get(f"/v1/conversations/{own}/messages", params={"after": LARGEST})
    assert beyond.json() == {"messages": []}


def test_the_number_of_an_answer_names_its_question(door, operator) -> None:
    number = ask(operator, "whose?", shard="echo", headers=WAIT).json()["id"]
    own = credentials.read(door.place.home).shards["echo"]
    after = operator.get(f"/v1/conversations/{own}/messages", params={"after": number})
    [answer] = [
        each["id"] for each in after.json()["messages"] if answered_by(each["metadata"]) == number
    ]
    for path in (f"/v1/questions/{answer}", f"/v1/questions/{answer}/events"):
        refused = operator.get(path)
        assert refused.status_code == 404
        assert refused.json()["detail"] == (
            f"message {answer} is no question; it is the answer to question {number}"
        )


def test_a_trace_shows_the_operator_processes_and_its_asker_states(door, operator) -> None:
    mine = conversation(operator)
    with door.client(mine["a"]) as client:
        number = ask(client, "how?", headers=WAIT).json()["id"]
        seen = client.get(f"/v1/questions/{number}/trace").json()
    whole = operator.get(f"/v1/questions/{number}/trace").json()
    way = ["sent", "enrolled", "claimed", "dispatched", "progress", "answered"]
    for found in (seen, whole):
        assert [each["state"] for each in found["events"] if each["state"] != "incident"] == way
        assert (found["id"], found["attempts"], found["waits"]) == (number, 1, [])
        assert found["hops"]
    assert any(each.get("pid") for each in whole["events"])
    assert not any(each.get("pid") or each.get("worker") for each in seen["events"])
    assert operator.get("/v1/questions/zero/trace").status_code == 422


@pytest.mark.parametrize("path", ["/x", "/v1", "/v1/", "/v1/questions/1/", "/docs", "/%2e%2e/x"])
def test_what_is_not_there_is_a_problem_as_well(operator, path) -> None:
    answer = operator.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


UGLY = [
    "\udce9", "half \ud83d", "\0", "\x1b]0;x\x07", "x" * 999_000, "", True, None, 1.5, -1,
    2**70, [], {},
]  # fmt: skip


def test_whatever_stands_in_a_field_is_taken_or_refused_with_a_reason(door, operator) -> None:
    document = operator.get("/openapi.json").json()
    made = conversation(operator)["conversation"]
    tried = 0
    for path, methods in document["paths"].items():
        for method, what in methods.items():
            if "requestBody" not in what:
                continue
            [told] = what["requestBody"]["content"].values()
            [name_of_schema] = re.findall(r"schemas/(\w+)", json.dumps(told["schema"]))
            schema = document["components"]["schemas"][name_of_schema]
            good = dict.fromkeys(schema.get("required", ()), "x")
            for name in schema["properties"]:
                for value in [*UGLY, {"k": "\ud83d"}, {"\ud83d": 1}, [[["\udce9"]]]]:
                    answer = operator.request(
                        method,
                        path.replace("{conversation}", made),
                        content=json.dumps(good | {name: value}),
                        headers=HEADERS,
                    )
                    assert answer.status_code < 500, (path, name, value, answer.text)
                    assert isinstance(answer.json(), dict)
                    if "\\ud" in json.dumps(value):
                        assert answer.status_code == 422, (path, name, value)
                        assert name in answer.json()["detail"], answer.text
                    tried += 1
    assert tried > 100


@pytest.mark.parametrize("part", ["%ED%B3%A9", "%FF", "%00", "%F0%9F%98%80", "..%2f", "x" * 9000])
def test_whatever_stands_in_a_path_a_query_or_a_header_is_answered(operator, part) -> None:
    for path in operator.get("/openapi.json").json()["paths"]:
        for whole in (re.sub("{[a-z]+}", part, path), f"{path}?after={part}&last={part}&x={part}"):
            answer = operator.get(whole, headers={"Prefer": part, "Last-Event-ID": part})
            assert answer.status_code < 500, (whole, answer.text)
            if not whole.startswith(("/metrics", "/openapi")):
                assert isinstance(answer.json(), dict)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"question": "a", "question": "b"}', 400, "'question' stands twice"),
        (b'{"question": NaN}', 400, "NaN is no number"),
        (b'{"question": 1e999}', 400, "1e999 is too large"),
        (b'{"question": "x", "shard": "\\ud83d"}', 422, "body: shard holds half"),
        (b'{"question": "\xed\xb3\xa9"}', 400, "not UTF-8 at byte 14"),
        (b'{"question": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "levels deep"),
        (b'{"question": ' + b"[" * 150 + b"]" * 150 + b"}", 400, "levels deep"),
        (b'{"question": "x" "shard"}', 400, "line 1 column 18"),
        ('{"question": "x"}'.encode("utf-16"), 400, "not UTF-8 at byte 0"),
        (b"", 422, "the body is empty"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_and_where(operator, body, status, says) -> None:
    answer = operator.post("/v1/questions", content=body, headers=HEADERS)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert answer.json()["mend"]


def test_a_body_is_json_whatever_is_not_said_and_nothing_else_if_it_is_said(operator) -> None:
    body = json.dumps({"question": "é?"}, ensure_ascii=False).encode()
    for good in (None, "application/json", "Application/JSON; Charset=UTF-8", "application/x+json"):
        headers = {"Content-Type": good} if good else {}
        answer = operator.post("/v1/questions", content=body, headers=headers)
        assert answer.status_code == 202, (good, answer.text)
    for bad in (
        "application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin-1",
        "", "?",
    ):  # fmt: skip
        answer = operator.post("/v1/questions", content=body, headers={"Content-Type": bad})
        assert answer.status_code == 415, (bad, answer.text)
        assert answer.json()["type"] == "urn:autopoll:problem:unsupported-media-type"
        assert "Content-Type" in answer.json()["detail"]
        assert "Content-Type: application/json" in answer.json()["mend"]
    bom = b"\xef\xbb\xbf" + body
    assert operator.post("/v1/questions", content=bom, headers=HEADERS).status_code == 202


# --- who asks comes first

PUBLIC = {"/healthz", "/readyz", "/openapi.json"}
OPERATION = (
    "/metrics", "/v1/status", "/v1/shards", "/v1/hosts", "/v1/queue", "/v1/incidents",
    "/v1/dead-letters",
)  # fmt: skip
BAD = "?limit=x&after=x&last=x&unread=x"


def served(operator: httpx.Client) -> Iterator[tuple[str, str, str]]:
    """Yield each route of the document as (method, path, path with an id that is none)."""
    for path, methods in operator.get("/openapi.json").json()["paths"].items():
        for method in methods:
            yield method.upper(), path, re.sub("{[a-z]+}", "x", path) + BAD


def test_without_a_token_nothing_is_looked_at_on_any_path(door, operator) -> None:
    nowhere = [("GET", "/nowhere", "/nowhere"), ("DELETE", "/v1/status", "/v1/status")]
    mcp = [("POST", "/mcp", "/mcp"), ("GET", "/mcp", "/mcp")]
    routes = [*served(operator), *nowhere, *mcp]
    assert len(routes) > 20
    for shown in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {door.token}"}):
        with httpx.Client(base_url=door.url, headers=shown) as stranger:
            for method, path, bad in routes:
                for body in (b"{", b"x" * 2_000_000):
                    answer = stranger.request(method, bad, content=body)
                    if path in PUBLIC:
                        assert answer.status_code in (200, 503), path
                    else:
                        assert answer.status_code == 401, (method, path, answer.text)
                        assert answer.json()["type"] == "urn:autopoll:problem:unauthenticated"


def test_what_is_the_operators_is_refused_to_others_before_it_is_looked_at(door, operator) -> None:
    tokens = conversation(operator)
    with door.client(tokens["a"]) as session:
        for method, path, bad in served(operator):
            if path.startswith(OPERATION) or path == "/v1/conversations":
                answer = session.request(method, bad, content=b"{")
                assert answer.status_code == 403, (method, path, answer.text)


def test_a_token_that_is_revoked_opens_nothing_on_a_connection_that_is_open(door, operator) -> None:
    tokens = conversation(operator)
    where = f"/v1/conversations/{tokens['conversation']}"
    with door.client(tokens["a"]) as session:
        assert session.get(where).status_code == 200
        door.place.run("conversations", "revoke", tokens["conversation"], "a")
        assert session.get(where).status_code == 401
        assert session.get(f"{where}/messages{BAD}").status_code == 401


# --- the document


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_is_served_is_what_the_openapi_document_says(door, operator, tmp_path) -> None:
    """No error of ours, no undocumented answer, nothing let in without a token.

    Not that whatever fits the schema is taken: a shard that is not there fits it too.
    """
    ask(operator, "there is one", headers=WAIT)
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")), "run", f"{door.url}/openapi.json",
            "--header", f"Authorization: Bearer {door.token}",
            "--phases", "fuzzing", "--max-examples", "6", "--seed", "7", "--workers", "2",
            "--exclude-checks", "positive_data_acceptance", "--request-timeout", "30",
            "--generation-database", "none", "--no-color", "--suppress-health-check", "too_slow",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    assert "27 passed" in run.stdout, run.stdout[-1500:]


def test_every_answer_of_the_document_is_described_by_a_record_that_is_there(operator) -> None:
    document = operator.get("/openapi.json").json()
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    used = set(re.findall(r'"(#/components/schemas/\w+)"', json.dumps(document)))
    assert used <= known
    assert {"#/components/schemas/Problem", "#/components/schemas/Result"} <= used
    for path, methods in document["paths"].items():
        for method, what in methods.items():
            for status, told in what["responses"].items():
                kind = next(iter(told.get("content", {"": None})))
                problem = kind == "application/problem+json"
                assert problem == (int(status) >= 400), (method, path, status)


def test_the_client_in_rest_md_needs_nothing_but_python_and_gets_its_answer(door, operator) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rest.md").read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    call = f"print(ask('Documented?', {door.url!r}, input())['answer'])"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}\n{call}"],  # without what is installed
        input=door.token, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stdout == "you asked: Documented?\n", run.stderr


def test_a_method_that_is_not_there_is_told_those_that_are(operator) -> None:
    refused = operator.delete("/v1/conversations")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST"


def test_a_shard_is_paused_and_questions_are_taken_back_by_who_may(door, operator) -> None:
    paused = operator.post("/v1/shards/echo/pause", json={"reason": "a look at it"}).json()
    assert paused["shard"] == "echo" and "a look at it" in paused["words"]
    tokens = conversation(operator, shard="echo")
    other = conversation(operator)
    with door.client(tokens["a"]) as mine, door.client(other["a"]) as stranger:
        numbers = [
            mine.post("/v1/questions", json={"question": f"{n}?"}).json()["id"] for n in "123"
        ]
        shown = until(
            lambda: (
                len(found := operator.get("/v1/queue?shard=echo").json()["questions"]) == 3
                and found
            ),
            what="the queue",
        )
        assert [each["id"] for each in shown] == numbers
        assert all("a look at it" in each["paused"] for each in shown)
        page = operator.get("/v1/queue", params={"shard": "echo", "limit": 2}).json()
        assert (len(page["questions"]), page["next"]) == (2, numbers[1])
        refused = stranger.post(f"/v1/questions/{numbers[0]}/cancel")
        absent = stranger.post("/v1/questions/987654321/cancel")
        assert (refused.status_code, absent.status_code) == (404, 404)
        done = mine.post(f"/v1/questions/{numbers[0]}/cancel")
        assert (done.status_code, done.json()["outcome"]) == (200, "cancelled")
        assert (
            mine.get(f"/v1/questions/{numbers[0]}")
            .json()["answer"]
            .startswith("Cancelled by session a of ")
        )
        again = mine.post(f"/v1/questions/{numbers[0]}/cancel")
        assert (again.status_code, again.json()["title"]) == (409, "Settled")
        by = operator.post(f"/v1/questions/{numbers[1]}/cancel").json()
        assert by["cancelled"] is True
    for path in ("/v1/shards/nowhere/pause", "/v1/shards/nowhere/resume"):
        assert operator.post(path).status_code == 404
    for body in ({"seconds": 0}, {"seconds": -1}, {"seconds": "1"}, {"why": 1}, [], 7):
        assert operator.post("/v1/shards/echo/pause", json=body).status_code == 422
    for query in ("after=-1", "limit=0", "limit=1001", "limit=x"):
        assert operator.get(f"/v1/queue?{query}").status_code == 422
    resumed = operator.post("/v1/shards/echo/resume").json()
    assert (len(resumed["ended"]), resumed["paused"]) == (1, None)
    answered = operator.get(f"/v1/questions/{numbers[2]}", headers={"Prefer": "wait=20"}).json()
    assert answered["status"] == "answered"
