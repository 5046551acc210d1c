"""The HTTP side: kept connections, chunks, faults on the way, and the controls of a test."""

import json
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from mock_api import chat, messages
from mock_api.answers import tokens
from mock_api.moods import Moods

KEPT = 2000  # requests that are remembered


class Raw(NamedTuple):
    """What is sent to every question as it is, a chunk at a time."""

    chunks: list[bytes]
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({"content-type": "text/event-stream"})
    pause: float = 0.0  # seconds before each chunk


class MockApi(ThreadingHTTPServer):
    """The service; used as a context manager it runs in a thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.mood = ""
        self.key: str | None = None  # the only one that is let in, if set
        self.raw: Raw | None = None  # in place of every answer, if set
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.connections = 0  # made so far
        self.open: set[socket.socket] = set()  # now
        self.seen: dict[ModuleType, set[str]] = {messages: set(), chat: set()}
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The questions among the requests, and not the looking around."""
        return [each for each in list(self.requests) if _is_question(each["path"])]

    def __enter__(self) -> "MockApi":
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections."""
        for kept in list(self.open):
            with suppress(OSError):  # it has gone at the same moment
                kept.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone; anything else is an error of the mock."""
        import sys

        if not isinstance(sys.exception(), ConnectionError | BrokenPipeError):
            super().handle_error(request, client_address)


@contextmanager
def running(key: str | None = None) -> Iterator[MockApi]:
    """Run a service that lets in that key only."""
    with MockApi() as api:
        api.key = key
        yield api


class _Handler(BaseHTTPRequestHandler):
    server: MockApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def setup(self) -> None:
        self.server.connections += 1
        self.server.open.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.open.discard(self.request)
        try:
            super().finish()
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet; what was asked is in `requests`."""

    def do_HEAD(self) -> None:
        self._send(200, {})

    def do_PUT(self) -> None:
        self.server.mood = self._body().decode()
        self._send(200, {"mood": self.server.mood})

    def do_GET(self) -> None:
        if self.path == "/requests":
            self._send(200, list(self.server.requests))
            return
        api, path = self._api(), self.path.partition("?")[0]
        self._remember({})
        if not self._let_in(api) or self._faulty(api, Moods.of("", self.server.mood), {}):
            return
        if path.endswith("/models"):
            names = [api.model(name) for name in ("claude-mock-1", "mock")]
            self._send(200, {"object": "list", "data": names, "has_more": False})
        elif path.rpartition("/")[2].startswith("missing"):
            self._send(404, *api.error(404, Moods({}), ""))
        else:
            self._send(200, api.model(path.rpartition("/")[2]))

    def do_POST(self) -> None:
        api, body = self._api(), json.loads(self._body() or b"{}")
        self._remember(body)
        moods = Moods.of(api.user_of(body), self.server.mood)
        if not self._let_in(api) or self._faulty(api, moods, body):
            return
        if self.server.raw is not None:
            self._play(self.server.raw)
        elif "count_tokens" in self.path:
            size = tokens(messages.system_of(body)) + tokens(messages.user_of(body))
            self._send(200, {"input_tokens": size})
        elif body.get("stream"):
            self._stream(api, moods, body)
        else:
            self._send(200, api.reply(body, moods, self.server.seen[api]))

    # --- before the answer

    def _api(self) -> ModuleType:
        """Return which API is spoken: only one of them sends its version."""
        return chat if "anthropic-version" not in self.headers else messages

    def _let_in(self, api: ModuleType) -> bool:
        given = self.headers.get("x-api-key") or self.headers.get("authorization", "")
        given = given.removeprefix("Bearer ")
        if self.server.key is None or given == self.server.key:
            return True
        self._send(401, *api.error(401, Moods({}), given))
        return False

    def _faulty(self, api: ModuleType, moods: Moods, body: dict[str, Any]) -> bool:
        """Behave badly before the first byte of an answer; False when there is to be one."""
        self._wait(300 if "slow" in moods else moods.number("delay"))
        if "hang" in moods:
            self._linger()
            self.close_connection = True
        elif "reset" in moods:
            self._reset()
        elif "html" in moods:
            self._send(200, "<html><body>A proxy says hello</body></html>")
        elif "307" in moods:
            self._send(307, {}, {"location": f"{self.server.url}/elsewhere"})
        elif (status := moods.status) is not None:
            self._send(status, *api.error(status, moods, self.headers.get("x-api-key", "")))
        else:
            return False
        return True

    # --- the answer

    def _stream(self, api: ModuleType, moods: Moods, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = api.events(body, moods, self.server.seen[api])
        for event in events:
            self._chunk(event)
            if api.is_piece(event) and self._spoilt(api, moods):
                return
            self._wait(moods.number("pause"))
        self._end()

    def _play(self, raw: Raw) -> None:
        self.send_response(raw.status)
        for name, value in raw.headers.items():
            self.send_header(name, value)
        if raw.status != 204:
            self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in raw.chunks:
            self._wait(raw.pause * 1000)
            self._chunk(chunk)
        if raw.status != 204:
            self._end()

    def _spoilt(self, api: ModuleType, moods: Moods) -> bool:
        """Spoil a stream that has begun; False when it shall go on."""
        if "stall" in moods:
            self._linger()
        elif "drop" in moods:
            self.wfile.write(b"ff\r\nda")  # half a chunk
            self.wfile.flush()
        elif "error" in moods:
            self._chunk(api.error_event(moods.values["error"]))
            self._end()
            return True
        elif "garbage" in moods:
            self._chunk(b'event: content_block_delta\ndata: {"type": oops\n\n')
        elif "cut" in moods:
            self._end()
            return True
        elif "endless" in moods:
            while not self.server.closing.is_set():
                self._chunk(api.delta_event("and on "))
                self._wait(moods.number("pause", 1))
        else:
            return False
        self.close_connection = True
        return True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def _linger(self) -> None:
        """Do nothing until the client gives up."""
        while not self.server.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                return

    def _wait(self, milliseconds: float) -> None:
        if milliseconds:
            self.server.closing.wait(milliseconds / 1000)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _remember(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append({"path": self.path, "headers": headers, "body": body})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        data = text.encode()
        self.send_response(status)
        kind = "text/html" if isinstance(body, str) else "application/json"
        for name, value in {"content-type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()


def _is_question(path: str) -> bool:
    path = path.partition("?")[0]
    return path.endswith(("/messages", "/chat/completions"))
