"""A real gateway, and those who mean it harm or are merely slow."""

import asyncio
import http.client
import json
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from agents import at_gateway
from doors import Door, config
from place import Place, until

from autopoll.errors import ConfigError
from autopoll.gateway.server import make_room
from autopoll.home import operator_token
from fifo.bell import Bell

PATHS = (
    "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/questions/1", "/v1/status", "/nowhere",
)  # fmt: skip
LIMITS = {
    "client_timeout": '"600ms"',
    "max_body": '"20KiB"',
    "max_connections": 12,
    "max_wait": '"1s"',
}


@contextmanager
def gateway(place: Place) -> Iterator[subprocess.Popen[str]]:
    """Run the gateway of a home of which nothing else runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "autopoll", "gateway"],
        cwd=place.root, env=place.environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0, err


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    origins = "['https://app.example.org']"
    door = Door(
        tmp_path_factory.mktemp("guard"), **LIMITS,
        allowed_hosts="['good.example.org']", allowed_origins=origins,
    )  # fmt: skip
    try:
        with gateway(door.place):
            door.serves()
            yield door
    finally:
        door.place.close()


def connect(door: Door) -> socket.socket:
    client = socket.create_connection(door.address, timeout=20)
    client.settimeout(20)
    return client


def answer(client: socket.socket) -> tuple[int, dict]:
    """Return the status and the problem that the gateway sends before it closes or goes on."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, json.loads(response.read())


def audited(door: Door, why: str) -> None:
    until(lambda: why in [each for _, each in door.denials()], what=f"{why} to be audited")


def get(door: Door, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{door.url}{path}", headers=headers)


# --- where a request comes from


@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_names_another_host_is_refused_whatever_it_asks_for(door, path) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.2", "", "a b"):
        refused = get(door, path, Host=host)
        assert refused.status_code == 421, (path, host)
        assert refused.json()["type"] == "urn:autopoll:problem:wrong-host"
    audited(door, "wrong-host")


@pytest.mark.parametrize("path", PATHS)
def test_a_page_of_another_origin_is_refused_whatever_it_asks_for(door, path) -> None:
    for origin in (
        "https://evil.example",
        "null",
        door.url,
        "https://app.example.org.evil.example",
    ):
        refused = get(door, path, Origin=origin)
        assert refused.status_code == 403, (path, origin)
        assert refused.json()["type"] == "urn:autopoll:problem:wrong-origin"
    audited(door, "wrong-origin")


def test_hosts_and_origins_that_are_allowed_are_let_in(door) -> None:
    port = door.address[1]
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", "[::1]", "good.example.org:443"):
        assert get(door, "/healthz", Host=host).status_code == 200, host
    allowed = get(door, "/healthz", Origin="https://app.example.org")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.org"
    asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{door.url}/v1/questions", headers=asked)
    assert preflight.status_code == 200


def test_a_request_without_a_host_or_with_two_is_no_request(door) -> None:
    for lines in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        with closing(connect(door)) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n" + lines + b"\r\n")
            status, problem = answer(client)
            assert (status, problem["title"]) == (400, "Malformed")
    audited(door, "not-http")


# --- too much


def post(door: Door, length: int | None) -> bytes:
    framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    return (
        "POST /v1/questions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {door.token}\r\n"
        f"Content-Type: application/json\r\n{framing}\r\n\r\n"
    ).encode()


def test_a_body_that_says_it_is_too_large_is_refused_unread(door) -> None:
    with closing(connect(door)) as client:
        client.sendall(post(door, 30_000))
        assert answer(client)[0] == 413
    audited(door, "body-too-large")


def test_a_body_is_counted_as_it_comes_whatever_it_says_of_itself(door) -> None:
    with closing(connect(door)) as client:
        client.sendall(post(door, None))
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        for _ in range(6):
            client.sendall(chunk)
        status, problem = answer(client)
        assert (status, problem["type"]) == (413, "urn:autopoll:problem:body-too-large")


def test_headers_beyond_all_measure_are_refused(door) -> None:
    with closing(connect(door)) as client, pytest.raises((ConnectionError, AssertionError)):
        # It may close while we are still sending.
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2_000_000)
        assert answer(client)[0] == 200
    assert get(door, "/healthz").status_code == 200


def test_when_there_are_too_many_the_one_kept_waiting_for_longest_makes_room(door) -> None:
    held = [connect(door) for _ in range(LIMITS["max_connections"])]
    try:
        assert get(door, "/healthz").status_code == 200
        status, problem = answer(held[0])
        assert (status, problem["title"]) == (503, "Too many connections")
    finally:
        for client in held:
            client.close()
    audited(door, "too-many-connections")


def test_streams_of_notifications_make_room_for_whoever_asks(door) -> None:
    request = (
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {door.token}\r\nMcp-Session-Id: %d\r\n\r\n"
    )
    streams = []
    try:
        for number in range(2 * LIMITS["max_connections"]):
            streams.append(connect(door))
            streams[-1].sendall((request % number).encode())
            assert streams[-1].recv(1000).startswith(b"HTTP/1.1 200")
            status = get(door, "/v1/status", Authorization=f"Bearer {door.token}")
            assert status.status_code == 200
        assert streams[0].recv(1000) == b""
        streams[-1].settimeout(0.05)
        with pytest.raises(TimeoutError):
            streams[-1].recv(1000)
    finally:
        for client in streams:
            client.close()


# --- too slow


def test_headers_that_drip_are_not_waited_for(door) -> None:
    with closing(connect(door)) as client:
        client.settimeout(0.05)
        sent = 0

        def told() -> bool:
            nonlocal sent
            try:
                client.sendall(b"x")
                sent += 1
                return bool(client.recv(1, socket.MSG_PEEK))
            except TimeoutError:
                return False

        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        until(told, 15, "the gateway to lose its patience")
        client.settimeout(20)
        assert answer(client)[0] == 408
        assert sent > 1, "it was cut at once"
    audited(door, "headers-too-slow")


def test_a_client_that_says_nothing_is_not_waited_for(door) -> None:
    with closing(connect(door)) as client:
        assert answer(client)[0] == 408


def test_a_body_that_drips_is_not_waited_for(door) -> None:
    with closing(connect(door)) as client:
        client.sendall(post(door, 1000))
        client.settimeout(0.05)

        def told() -> bool:
            try:
                client.sendall(b"x")
                return bool(client.recv(1, socket.MSG_PEEK))
            except TimeoutError:
                return False

        until(told, 15, "the gateway to lose its patience")
        client.settimeout(20)
        status, problem = answer(client)
        assert (status, problem["type"]) == (408, "urn:autopoll:problem:body-too-slow")
    audited(door, "body-too-slow")


def test_who_goes_on_sending_what_was_refused_is_cut(door) -> None:
    with closing(connect(door)) as client:
        client.sendall(post(door, 10_000_000))
        assert answer(client)[0] == 413
        client.settimeout(0.05)

        def cut() -> bool:
            try:
                client.sendall(b"x" * 100)
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(cut, 15, "the connection to be cut")
    audited(door, "refused-body-goes-on")


def test_who_takes_no_answers_is_cut(door) -> None:
    with closing(connect(door)) as client:
        # Many answers asked for at once, none of them read: they fill every buffer on the way.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.05)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200

        def cut() -> bool:
            try:
                client.send(ask)
            except TimeoutError:
                return "answer-not-taken" in [why for _, why in door.denials()]
            except ConnectionError:
                return True
            return False

        until(cut, 30, "the connection to be cut")
    audited(door, "answer-not-taken")
    assert get(door, "/healthz").status_code == 200


# --- a wait that is too long


@pytest.fixture
def kept(door) -> Iterator[int]:
    """A question that nobody answers, though somebody is there to take it."""
    with closing(Bell(door.place.home.bell)), door.client() as operator:
        yield operator.post("/v1/questions", json={"question": "ever?"}).json()["id"]


def test_a_wait_over_rest_ends_after_max_wait_whatever_is_preferred(door, kept) -> None:
    with door.client() as operator:
        read = operator.get(f"/v1/questions/{kept}", headers={"Prefer": "wait=60"})
    assert (read.status_code, read.json()["status"]) == (200, "pending")
    assert read.headers["Preference-Applied"] == "wait=1"


def test_a_wait_over_mcp_ends_after_max_wait_whatever_is_preferred(door, kept) -> None:
    async def fetch() -> dict:
        async with at_gateway(door.url, door.token) as agent:
            return await agent.get("get_answer", id=kept, timeout=3600)

    assert asyncio.run(fetch())["status"] == "pending"


# --- where it listens, and the operator's token


def test_a_unix_socket_is_private_and_shows_the_metrics_to_its_owner(new_place) -> None:
    place = new_place(config("unix:var/run/gateway.sock"))
    path = place.root / "var" / "run" / "gateway.sock"
    with gateway(place):
        until(path.exists, 90, "the socket")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            found = client.get("http://localhost/metrics")
            assert found.status_code == 200
            assert "autopoll_queue_depth" in found.text
            assert client.get("http://localhost/v1/status").status_code == 401
            assert client.get("http://evil.example/metrics").status_code == 421
    assert not path.exists()


@pytest.mark.long
def test_a_gateway_that_cannot_be_is_not_tried_again_and_says_what_to_do(new_place) -> None:
    place = new_place(config("0.0.0.0:1", allow_remote="true"))
    refused = place.run("gateway", code=78)
    assert "no operator's token" in refused.stderr
    assert "autopoll gateway token" in refused.stderr
    hidden = place.root / "hidden" / "fastapi"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('hidden', name='fastapi')")
    place.environ["PYTHONPATH"] = str(hidden.parent)
    refused = place.run("gateway", code=78)
    assert "pip install 'autopoll[gateway]'" in refused.stderr


def test_it_takes_as_many_files_as_it_allows_connections_or_says_that_it_cannot() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        make_room(512)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft * 0.8 > 512
        assert hard == before[1]
        with pytest.raises(ConfigError, match="max_connections = 10000000 needs") as refused:
            make_room(10_000_000)
        assert "ulimit" in refused.value.mend
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_operators_token_is_shown_once_rotated_and_revoked(door) -> None:
    kept = door.place.home.operator_token

    def status(token: str) -> int:
        return get(door, "/v1/incidents", Authorization=f"Bearer {token}").status_code

    assert status(door.token) == 200
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert door.token not in kept.read_text()
    assert "--rotate" in door.place.run("gateway", "token", code=1).stderr
    old, door.token = door.token, door.place.json("gateway", "token", "--rotate")["token"]
    assert (status(old), status(door.token)) == (401, 200)
    kept.chmod(0o644)
    assert status(door.token) == 503
    kept.chmod(0o600)
    operator_token.revoke(door.place.home)
    assert status(door.token) == 401
    door.place.run("gateway", "token", "--revoke", code=2)
    door.token = operator_token.create(door.place.home)
    assert status(door.token) == 200
