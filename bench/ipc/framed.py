"""TCP with the frames, the session and the loop of our library: what the pipes alone change."""

import asyncio
import os
from pathlib import Path

from bench.ipc.server import start
from bench.ipc.tcp import accepted, listening
from bench.ipc.turning import Turning
from fifo import events
from fifo.client_session import ClientSession
from fifo.frame import MAX_PAYLOAD
from fifo.pipe import Ends
from fifo.session import VERSIONS
from fifo.wire import Wire


class Framed(Turning):
    """A socket in the place of the pipes."""

    name = "tcp, our frames"

    def _join(self, folder: Path) -> None:
        self._turn()
        self._number = 0
        with listening() as listener:
            self.server = start(self._stack, "framed", listener.getsockname()[1])
            joined = accepted(self, listener, self.server)
        joined.setblocking(False)
        descriptor = joined.detach()
        self._run(self._open(Ends(descriptor, os.dup(descriptor))))
        self._stack.callback(self._wire.close)

    async def _open(self, ends: Ends) -> None:
        self._wire = Wire(ends, on_data=self._on_data, on_lost=self._on_lost)
        self._session = ClientSession(1, self._wire.send, max_payload=MAX_PAYLOAD)
        self._session.hello(os.getpid(), VERSIONS[-1])
        while not self._session.live:
            await asyncio.sleep(0.002)

    def _on_data(self, data: bytes) -> None:
        for event in self._session.receive(data):
            if isinstance(event, events.ReplyReceived):
                self._heard(event.payload)

    def _on_lost(self, reason: str) -> None:
        self._gone(f"{reason}, {self._session.torn} bytes into a frame")

    def _ask(self, payload: bytes) -> None:
        self._number += 1
        self._session.request(self._number, payload)

    async def _in_a_reply(self) -> None:
        while not self._session.torn:
            await asyncio.sleep(0)
