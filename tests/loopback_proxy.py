"""What the proxies of the tests share: a loop in a thread, and a port on 127.0.0.1."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Self

HOST = "127.0.0.1"


class LoopbackProxy(ABC):
    """Takes connections in a thread of its own, each in `_forward`; used as a context manager.

    `port` is free unless given, and stays the same.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the loop do something, from another thread, and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._forward, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _listen_no_more(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._listen_no_more()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    @abstractmethod
    async def _forward(
        self, client: asyncio.StreamReader, answer: asyncio.StreamWriter
    ) -> None: ...
