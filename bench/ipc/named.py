"""Named pipes by our own library, as the product uses it: asyncio at both ends."""

import asyncio
import os
import select
import shutil
import time
from pathlib import Path

from bench.ipc.server import start
from bench.ipc.turning import PATIENCE_S, Turning
from bench.ipc.window import AHEAD
from fifo import events, pair
from fifo.client_end import ClientEnd


class Named(Turning):
    """A `ClientEnd`; the server is a `ServerEnd`."""

    name = "fifo"

    def _join(self, folder: Path) -> None:
        self._turn()
        self._folder = folder / "pair"
        self._number = 0
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.server = start(self._stack, "named", self._folder, AHEAD)
        self._client = ClientEnd(self._folder, on_event=self._on_event)
        self._stack.callback(lambda: self._run(self._close()))
        self._run(self._connect())

    async def _connect(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self._client.connected:
            if time.monotonic() > deadline:
                raise ConnectionError(f"no server in {self._folder}")
            self._client.poke()
            await asyncio.sleep(0.002)

    async def _close(self) -> None:
        self._client.close()

    def _on_event(self, event: events.ClientEvent) -> None:
        match event:
            case events.ReplyReceived(payload=echo):
                self._heard(echo)
            case events.Disconnected(reason=reason):
                self._gone(reason)

    def _ask(self, payload: bytes) -> None:
        self._number += 1
        self._client.request(self._number, payload)

    async def _in_a_reply(self) -> None:
        # The link tells of whole frames only: look past it, at the pipe.
        reader = os.open(self._folder / pair.REPLIES, os.O_RDONLY | os.O_NONBLOCK)
        try:
            while not select.select([reader], [], [], 0)[0]:
                await asyncio.sleep(0)
        finally:
            os.close(reader)
