"""A real gateway, and a crowd without a token that holds every connection it can get."""

import resource
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import httpx
import pytest
from doors import Door, config
from place import Place, until

CROWD = 520  # more than the 512 connections that are taken
PATIENT = {"client_timeout": '"10m"'}  # so that no deadline clears the crowd away in time
HEAD = b"POST /v1/questions HTTP/1.1\r\nHost: localhost\r\n"
WRONG = HEAD + b"Authorization: Bearer wrong\r\nContent-Type: application/json\r\n"
# What each of the crowd sends, and what it then goes on sending.
KINDS = {
    "silent": (b"", b""),
    "half a header": (HEAD, b""),
    "a header that drips": (HEAD + b"X: ", b"x"),
    "a header and half a body": (WRONG + b"Content-Length: 1000\r\n\r\n{", b""),
    "a header and a body that drips": (WRONG + b"Content-Length: 1000\r\n\r\n{", b"x"),
    "a whole request, refused": (b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
}


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Served:
    """One gateway, and how it is reached."""

    def __init__(self, place: Place, token: str, url: str, address: tuple[str, int] | str) -> None:
        self.place = place
        self.url = url
        self._address = address
        self.token = token

    def connect(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        client = socket.socket(family)
        client.connect(self._address)  # without a time-out, for which a full queue is no error
        client.settimeout(30)
        return client

    def client(self) -> httpx.Client:
        unix = self._address if isinstance(self._address, str) else None
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60,
            transport=httpx.HTTPTransport(uds=unix),
        )  # fmt: skip


@pytest.fixture(scope="module")
def tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A whole home, whose shard main keeps who asks waiting."""
    door = Door(tmp_path_factory.mktemp("crowd"), **PATIENT)
    try:
        door.place.run("up")
        yield Served(door.place, door.token, door.url, door.address)
    finally:
        door.open_gate()
        door.place.close()


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway alone."""
    place = Place(tmp_path_factory.mktemp("crowd"), config("unix:var/run/g.sock", **PATIENT))
    token = place.json("gateway", "token")["token"]
    process = subprocess.Popen(
        [*place.command, "gateway"], cwd=place.root, env=place.environ, stdin=subprocess.DEVNULL
    )
    try:
        until(lambda: (beat := place.beat("gateway")) and beat.state == "idle", 60, "it to serve")
        yield Served(place, token, "http://localhost", str(place.home.run / "g.sock"))
    finally:
        process.terminate()
        assert process.wait(30) == 0
        place.close()


@contextmanager
def crowd(served: Served, kind: str) -> Iterator[list[socket.socket]]:
    """Hold as many connections as there are to be had, taking a new one for each that is cut."""
    first, more = KINDS[kind]
    held: list[socket.socket] = []
    enough = threading.Event()

    def hold() -> socket.socket:
        client = served.connect()
        with suppress(ConnectionError):
            client.sendall(first)
        return client

    def go_on() -> None:
        while more and not enough.wait(1):
            for number, client in enumerate(held):
                try:
                    client.sendall(more)
                except OSError:
                    client.close()
                    held[number] = hold()

    held += [hold() for _ in range(CROWD)]
    dripping = threading.Thread(target=go_on)
    dripping.start()
    try:
        yield held
    finally:
        enough.set()
        dripping.join()
        for client in held:
            client.close()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_crowd_without_a_token_keeps_nobody_out(way, kind, request) -> None:
    served: Served = request.getfixturevalue(way)
    with crowd(served, kind), served.client() as client:
        for _ in range(3):
            with served.client() as newcomer:
                assert newcomer.get("/healthz").status_code == 200
                assert newcomer.get("/v1/incidents").status_code == 200
            assert client.get("/v1/incidents").status_code == 200


def test_who_waits_and_who_follows_with_a_token_is_not_cut_off_by_a_crowd(tcp: Served) -> None:
    go = tcp.place.root / "go"
    go.unlink(missing_ok=True)
    told: list[str] = []
    with tcp.client() as client, ExitStack() as stack:
        number = client.post("/v1/questions", json={"question": "still there?"}).json()["id"]

        def wait(path: str, **headers: str) -> None:
            with tcp.client() as other:
                told.append(other.get(f"/v1/questions/{number}{path}", headers=headers).text)

        waiting = [
            threading.Thread(target=wait, args=("",), kwargs={"Prefer": "wait=300"}),
            threading.Thread(target=wait, args=("/events",)),
        ]
        for thread in waiting:
            thread.start()
        until(lambda: followers(client) == 2, 30, "both to wait")
        for kind in ("half a header", "a header and a body that drips"):
            stack.enter_context(crowd(tcp, kind))
        assert followers(client) == 2
        go.touch()
        for thread in waiting:
            thread.join(60)
    assert len(told) == 2
    assert all("you asked: still there?" in each for each in told)


def followers(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    [line] = [each for each in text.splitlines() if each.startswith("autopoll_gateway_wait")]
    return float(line.split()[-1])


def test_many_who_come_at_once_and_are_honest_are_all_answered(tcp: Served) -> None:
    asking = b"GET /v1/incidents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
    with ExitStack() as stack, tcp.client() as last:
        clients = [stack.enter_context(closing(tcp.connect())) for _ in range(300)]
        assert last.get("/healthz").status_code == 200  # so all before it are let in
        for client in clients:
            client.sendall(asking % tcp.token.encode())
        answers = {client.recv(12) for client in clients}
    assert answers == {b"HTTP/1.1 200"}


@pytest.mark.parametrize("kind", ["a header and a body that drips", "a whole request, refused"])
def test_who_was_refused_is_soon_cut_however_it_goes_on(tcp: Served, kind: str) -> None:
    first, more = KINDS[kind]
    with closing(tcp.connect()) as client:
        client.sendall(first)
        client.settimeout(0.2)

        def cut() -> bool:
            try:
                client.sendall(more)
                return client.recv(4096) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(cut, 25, "the connection to be cut")
