"""`autopoll mcp` as a process: what is on its stdout, what it makes of bad input, how it ends."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bridge_calls import ask
from place import Place

pytestmark = pytest.mark.long

LOG = "notifications/message"
SLOW = '[shards.main]\nbackend = "echo"\noptions = { delay = "1s", concurrency = 8 }\n'
# Prints in every way there is, from the moment on when the server is there to be disturbed.
NOISE = """
import ctypes, os, subprocess, sys, threading, time
def noise():
    while "autopoll.gateway.mcp.mcp_server" not in sys.modules:
        time.sleep(0.001)
    libc = ctypes.CDLL(None)
    while True:
        print("a library prints", flush=True)
        sys.__stdout__.write("another one too\\n")
        os.write(1, b"and one below Python\\n")
        libc.puts(b"and one in C"); libc.fflush(None)
        subprocess.run(["echo", "and a child"])
if "mcp" in sys.argv:
    threading.Thread(target=noise, daemon=True).start()
"""


class Wire:
    """The two ends of a server's pipes, without any client's help."""

    def __init__(self, place: Place, **environ: str) -> None:
        self.process = subprocess.Popen(
            [*place.command, "mcp"],
            cwd=place.root,
            env=place.environ | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.received: list[dict[str, Any]] = []
        self._id = 0

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def say(self, method: str, request: bool = True, **params: Any) -> int:
        """Send a request or a notification and return its id."""
        self._id += request
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self.write(json.dumps(message | ({"id": self._id} if request else {})).encode() + b"\n")
        return self._id

    def call(self, tool: str, **arguments: Any) -> int:
        meta = {"progressToken": "p"}
        return self.say("tools/call", name=tool, arguments=arguments, _meta=meta)

    def hear(self) -> dict[str, Any]:
        """Return the next message; whatever stands on stdout must be one."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        message = json.loads(line)
        assert isinstance(message, dict), line
        assert message["jsonrpc"] == "2.0", line
        self.received.append(message)
        return message

    def answer(self, number: int) -> dict[str, Any]:
        """Hear on until a request is answered."""
        while (message := self.hear()).get("id") != number:
            pass
        return message

    def begin(self) -> "Wire":
        """Shake hands, as a client of any age can."""
        number = self.say(
            "initialize",
            protocolVersion="2025-06-18",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        assert self.answer(number)["result"]["serverInfo"]["name"] == "autopoll"
        self.say("notifications/initialized", request=False)
        return self

    def progress(self, part: str) -> str:
        """Hear on until the server tells something of a call."""
        while True:
            message = self.hear()
            if message.get("method") == "notifications/progress":
                text: str = message["params"]["message"]
                if part in text:
                    return text

    def end(self) -> tuple[int, str]:
        """Wait for the process to end, and return its code and what it said on stderr."""
        out, errors = self.process.communicate(timeout=20)
        for line in out.splitlines():
            assert json.loads(line)["jsonrpc"] == "2.0"
        return self.process.returncode, errors.decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("stdio") / "home", SLOW)
    try:
        made.run("up")
        yield made
    finally:
        made.close()


@pytest.fixture
def new_wire(place: Place) -> Iterator[Callable[..., Wire]]:
    wires: list[Wire] = []

    def make(at: Place = place, **environ: str) -> Wire:
        wires.append(Wire(at, **environ))
        return wires[-1]

    yield make
    for wire in wires:
        wire.process.kill()
        wire.process.communicate()


def number_in(text: str) -> int:
    """Return the question's id out of what was told of it."""
    return int(text.split()[1])


def test_nothing_but_protocol_is_on_stdout_whoever_prints(
    tmp_path: Path, new_wire: Callable[..., Wire]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    wire = new_wire(PYTHONPATH=str(tmp_path)).begin()
    for number in range(5):
        wire.answer(wire.call("ask", question=f"{number}?", timeout=0))
    wire.answer(wire.say("tools/list"))
    assert wire.process.stdin
    wire.process.stdin.close()
    wire.process.stdin = None
    code, errors = wire.end()
    assert code == 0
    for noise in ("a library", "another one", "below Python", "in C", "a child"):
        assert noise in errors


UGLY = [
    b"not JSON\n",
    b"\n",
    b"{\n",
    b"[]\n",
    b"null\n",
    b'"text"\n',
    b"\xff\xfe\x00\x01\n",
    b'{"jsonrpc": "1.0", "method": "ping", "id": 900}\n',
    b'{"jsonrpc": "2.0"}\n',
    b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}\n',
    b'{"jsonrpc": "2.0", "id": 901, "method": "no/such"}\n',
    b'{"jsonrpc": "2.0", "id": 902, "method": "tools/call", "params": []}\n',
    b'{"jsonrpc": "2.0", "id": 903, "method": "tools/call", "params": {"name": 5}}\n',
    b'{"jsonrpc": "2.0", "id": 904, "method": "tools/call",'
    b' "params": {"name": "ask", "arguments": {"question": "\\ud800"}}}\n',
    b"[" * 100_000 + b"\n",
    b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}\n',
]


def test_bad_lines_are_survived(new_wire: Callable[..., Wire]) -> None:
    wire = new_wire().begin()
    for line in UGLY:
        wire.write(line)
        number = wire.say("ping")
        assert wire.answer(number)["result"] == {}, line[:80]
    assert "Traceback" not in json.dumps(wire.received)


def test_the_end_of_stdin_ends_it_and_keeps_the_question(
    place: Place, new_wire: Callable[..., Wire]
) -> None:
    wire = new_wire().begin()
    wire.call("ask", question="kept?")
    number = number_in(wire.progress("is stored"))
    assert wire.process.stdin
    wire.process.stdin.close()
    wire.process.stdin = None
    assert wire.end()[0] == 0
    assert place.json("answer", str(number))["answer"] == "kept?"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_at_once_and_keeps_the_question(
    place: Place, new_wire: Callable[..., Wire], signal_number: int
) -> None:
    wire = new_wire().begin()
    wire.call("ask", question="kept?")
    number = number_in(wire.progress("is stored"))
    wire.process.send_signal(signal_number)
    code, errors = wire.end()
    assert (code, errors) == (0, "")
    assert place.json("answer", str(number))["answer"] == "kept?"


def test_a_client_that_is_gone_ends_it(new_wire: Callable[..., Wire]) -> None:
    wire = new_wire().begin()
    assert wire.process.stdout
    wire.process.stdout.close()
    wire.process.stdout = None
    wire.say("ping")
    assert wire.process.wait(timeout=20) == 0


def test_killed_it_leaves_the_question_to_another(
    place: Place, new_wire: Callable[..., Wire]
) -> None:
    wire = new_wire().begin()
    wire.call("ask", question="kept?")
    number = number_in(wire.progress("is stored"))
    wire.process.kill()
    other = new_wire().begin()
    fetched = other.answer(other.call("get_answer", id=number, timeout=30))["result"]
    assert fetched["structuredContent"]["answer"] == "kept?"


def test_a_cancelled_request_is_not_answered(new_wire: Callable[..., Wire]) -> None:
    wire = new_wire().begin()
    asking = wire.call("ask", question="never mind")
    number = number_in(wire.progress("is stored"))
    wire.say("notifications/cancelled", request=False, requestId=asking)
    state = wire.answer(wire.call("get_answer", id=number))["result"]["structuredContent"]
    assert state["status"] == "pending"
    wire.answer(wire.call("get_answer", id=number, timeout=30))
    assert all(message.get("id") != asking for message in wire.received)


def test_what_other_programs_write_is_notified_of_and_the_end_of_stdin_ends_that(
    place: Place, new_wire: Callable[..., Wire]
) -> None:
    made = place.json("conversations", "create")["conversation"]
    uri = f"autopoll://conversations/{made}"
    updated = {"method": "notifications/resources/updated", "params": {"uri": uri}}
    wire = new_wire().begin()
    assert wire.answer(wire.say("logging/setLevel", level="info"))["result"] == {}
    assert wire.answer(wire.say("resources/subscribe", uri=uri))["result"] == {}
    for text in ("first", "second"):
        with closing(place.bridge()) as bridge:
            ask(bridge, made, text)
        while wire.hear() != {"jsonrpc": "2.0", **updated}:
            pass
    refused = wire.answer(wire.say("resources/subscribe", uri=f"{uri}x"))["error"]
    assert (refused["code"], refused["data"]) == (-32602, {"uri": f"{uri}x"})
    while not (told := [each for each in wire.received if each.get("method") == LOG]):
        wire.hear()
    assert told[0]["params"]["level"] == "info"
    assert "resources/subscribe was refused" in told[0]["params"]["data"]
    assert wire.process.stdin
    wire.process.stdin.close()
    wire.process.stdin = None
    assert wire.end() == (0, "")


def test_its_log_is_private_and_one_for_all(place: Place, new_wire: Callable[..., Wire]) -> None:
    wires = [new_wire().begin() for _ in range(2)]
    path = place.home.log / "mcp.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {wire.process.pid for wire in wires} <= {line.get("pid") for line in lines}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "mcp" in place.run("logs", "mcp").stdout


def test_a_home_that_is_down_keeps_the_question_and_says_so(
    new_place: Callable[..., Place], new_wire: Callable[..., Wire]
) -> None:
    place = new_place()
    wire = new_wire(place).begin()
    result = wire.answer(wire.call("ask", question="anybody?"))["result"]
    text = result["content"][0]["text"]
    assert result["isError"]
    assert "autopoll is down: question 1 is kept" in text
    listed = wire.answer(wire.call("list_shards"))["result"]["structuredContent"]
    assert not listed["running"]
    place.run("up")
    fetched = wire.answer(wire.call("get_answer", id=1, timeout=30))["result"]
    assert fetched["structuredContent"]["answer"] == "anybody?"
    place.run("down")
    result = wire.answer(wire.call("ask", question="and now?"))["result"]
    assert "is down" in result["content"][0]["text"]


def test_changed_settings_are_seen_without_a_new_start(
    new_place: Callable[..., Place], new_wire: Callable[..., Wire]
) -> None:
    place = new_place()
    place.run("up")
    wire = new_wire(place).begin()

    def listed() -> list[str]:
        result = wire.answer(wire.call("list_shards"))["result"]["structuredContent"]
        return [each["name"] for each in result["shards"]]

    assert listed() == ["main"]
    with place.home.config.open("a") as settings:
        settings.write('[shards.second]\nbackend = "echo"\n')
    place.run("reload")
    assert listed() == ["main", "second"]
    asked = wire.answer(wire.call("ask", question="new?", shard="second"))["result"]
    assert asked["structuredContent"]["answer"] == "new?"
    good = place.home.config.read_text()
    place.home.config.write_text(good + "[shards.third\n")
    assert listed() == ["main", "second"]
    place.home.config.write_text(good)


def test_what_keeps_it_from_serving_is_said_on_stderr(
    tmp_path: Path, new_place: Callable[..., Place]
) -> None:
    place = new_place()
    nowhere = place.run("--home", str(tmp_path / "none"), "mcp", code=2)
    assert (nowhere.stdout, "is no autopoll home" in nowhere.stderr) == ("", True)
    (place.root / "autopoll.toml").write_text("[shards")
    garbled = place.run("mcp", code=4)
    assert (garbled.stdout, "is not valid TOML" in garbled.stderr) == ("", True)
    (place.root / "autopoll.toml").write_text('[shards.main]\nbackend = "echo"\n')
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('no mcp', name='mcp')")
    place.environ["PYTHONPATH"] = str(tmp_path)
    without = place.run("mcp", code=4)
    assert (without.stdout, "autopoll[gateway]" in without.stderr) == ("", True)


def test_started_without_standard_descriptors_it_ends_with_an_error(place: Place) -> None:
    code = f"exec {' '.join(place.command)} mcp <&- >&-"
    done = subprocess.run(
        ["sh", "-c", code],
        cwd=place.root,
        env=place.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert b"stdin" in done.stderr
    assert b"Traceback" not in done.stderr
