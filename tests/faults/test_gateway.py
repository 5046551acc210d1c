"""The gateway killed, stopped and drained while clients wait, and the worker they wait for."""

import asyncio
import json
import signal
from collections.abc import Iterator

import httpx
import pytest
from doors import Door
from place import answers_to, until

pytestmark = pytest.mark.early

TREE = ["gateway", "poller", "watchdog", "worker", "worker-echo-1"]
CLIENTS = 200


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("gateway"))
    try:
        door.place.run("up")
        yield door
    finally:
        door.open_gate()
        door.place.close()


@pytest.fixture(autouse=True)
def whole(door: Door) -> Iterator[None]:
    """Begin with the gate shut and everything there; end with one of each, and no answer twice."""
    door.place.ready(*TREE)
    door.serves()
    door.open_gate(False)
    yield
    door.open_gate()
    door.place.ready(*TREE)
    bridge = door.place.bridge()
    replies = answers_to(bridge.messages.find(limit=2000))
    bridge.close()
    assert len(replies) == len(set(replies)), "a question has two answers"


def connections(door: Door) -> httpx.AsyncClient:
    """Return a client that opens as many connections as are asked of it."""
    return httpx.AsyncClient(
        base_url=door.url,
        headers={"Authorization": f"Bearer {door.token}"},
        timeout=60,
        limits=httpx.Limits(max_connections=None),
    )


class Client:
    """One who asks, waits, and asks again under the same key when it was cut off."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self.http = http
        self.key = key
        self.statuses: list[int | str] = []

    async def ask(self, question: str) -> dict:
        while True:
            try:
                answer = await self.http.post(
                    "/v1/questions",
                    json={"question": question},
                    headers={"Idempotency-Key": self.key, "Prefer": "wait=60"},
                )
            except httpx.TransportError as error:
                self.statuses.append(type(error).__name__)
                await asyncio.sleep(0.05)
                continue
            self.statuses.append(answer.status_code)
            if answer.status_code == 200:
                return answer.json()
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            await asyncio.sleep(0.05)


async def waiting(http: httpx.AsyncClient, count: int) -> None:
    """Wait until so many wait in the gateway."""
    async with asyncio.timeout(60):
        while True:
            text = (await http.get("/metrics")).text
            [line] = [each for each in text.splitlines() if each.startswith("autopoll_gateway_w")]
            if float(line.split()[-1]) == count:
                return
            await asyncio.sleep(0.02)


def questions(door: Door, text: str) -> list[int]:
    bridge = door.place.bridge()
    try:
        return [each.id for each in bridge.messages.find(limit=2000) if f'"{text}"' in each.text]
    finally:
        bridge.close()


@pytest.mark.parametrize("role", ["gateway", "worker", "poller"])
def test_a_question_is_answered_once_when_a_process_is_killed_while_a_client_waits(
    door, role
) -> None:
    question = f"is {role} still there?"

    async def story() -> tuple[Client, dict]:
        async with connections(door) as http:
            client = Client(http, f"kill-{role}")
            asking = asyncio.create_task(client.ask(question))
            await waiting(http, 1)
            await asyncio.to_thread(door.place.busy, "worker")
            door.place.kill(role)
            door.open_gate()
            return client, await asking

    client, answer = asyncio.run(story())
    assert answer["answer"] == f"you asked: {question}"
    assert len(questions(door, question)) == 1, "it was asked twice"
    if role == "gateway":
        assert len(client.statuses) > 1, "the client noticed nothing"
    else:
        assert client.statuses == [200], "the client had to notice"


def test_who_waits_is_told_that_the_gateway_ends_and_where_the_question_is(door) -> None:
    async def ask(http: httpx.AsyncClient, text: str) -> httpx.Response:
        wait = {"Prefer": "wait=60"}
        return await http.post("/v1/questions", json={"question": text}, headers=wait)

    async def story() -> tuple[list[httpx.Response], str]:
        async with connections(door) as http:
            asking = [asyncio.create_task(ask(http, f"drained {each}")) for each in range(5)]
            await waiting(http, 5)
            number = questions(door, "drained 0")[0]
            following = asyncio.create_task(http.get(f"/v1/questions/{number}/events"))
            await waiting(http, 6)
            old = door.place.kill("gateway", signal.SIGTERM)
            answers = await asyncio.gather(*asking)
            await asyncio.to_thread(
                until, lambda: (beat := door.place.beat("gateway")) and beat.pid != old, 30
            )
            return answers, (await following).text

    answers, stream = asyncio.run(story())
    assert [each.status_code for each in answers] == [503] * 5
    for answer in answers:
        problem = answer.json()
        assert problem["type"] == "urn:autopoll:problem:draining"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["location"] == f"/v1/questions/{problem['id']}"
    assert "event: problem" in stream
    assert "retry: " in stream
    door.serves()
    door.open_gate()
    with door.client() as client:
        for answer in answers:
            told = client.get(answer.headers["location"], headers={"Prefer": "wait=30"})
            assert told.json()["status"] == "answered"


@pytest.mark.long
def test_two_hundred_wait_at_once_over_a_kill_of_the_gateway_and_none_is_lost(door) -> None:
    async def story() -> tuple[list[Client], list[dict]]:
        async with connections(door) as http:
            clients = [Client(http, f"many-{each}") for each in range(CLIENTS)]
            asking = [
                asyncio.create_task(client.ask(f"many {number}"))
                for number, client in enumerate(clients)
            ]
            await waiting(http, CLIENTS)
            door.place.kill("gateway")
            await asyncio.to_thread(door.serves)
            await waiting(http, CLIENTS)
            door.open_gate()
            return clients, await asyncio.gather(*asking)

    clients, answers = asyncio.run(story())
    assert [each["answer"] for each in answers] == [
        f"you asked: many {number}" for number in range(CLIENTS)
    ]
    assert len({each["id"] for each in answers}) == CLIENTS
    assert all(client.statuses[-1] == 200 for client in clients)


@pytest.mark.long
def test_a_gateway_that_stands_still_is_let_go_on_and_a_second_time_replaced(door) -> None:
    def verdicts() -> list[str]:
        lines = door.place.run("incidents", "--json").stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return [
            f"{each['verdict']}: {each['action']}" for each in found if each["process"] == "gateway"
        ]

    door.open_gate()
    before = len(verdicts())
    first = door.place.kill("gateway", signal.SIGSTOP)
    until(lambda: "stopped: continued" in verdicts()[before:], 30, "it to be continued")
    door.serves()
    assert door.place.pid("gateway") == first
    door.place.kill("gateway", signal.SIGSTOP)
    until(lambda: "stopped: killed" in verdicts()[before:], 30, "it to be killed")
    until(lambda: (beat := door.place.beat("gateway")) and beat.pid != first, 30)
    door.serves()


@pytest.mark.long
def test_latencies_outlive_the_gateway(door) -> None:
    door.open_gate()

    def counted(client: httpx.Client) -> list[str]:
        text = client.get("/metrics").text
        return [each for each in text.splitlines() if "answer_latency_seconds" in each]

    with door.client() as client:
        client.post("/v1/questions", json={"question": "x"}, headers={"Prefer": "wait=30"})
        before = counted(client)
    door.place.run("restart", "gateway")
    door.serves()
    with door.client() as client:
        assert counted(client) == before
    assert any("_count" in each and not each.endswith(" 0.0") for each in before)
