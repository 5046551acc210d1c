"""A client that is turned by an asyncio loop, as every role of a home is."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from bench.ipc.contract import FRAME, Channel, Loss, Wrong, stopped
from bench.ipc.window import Window

PATIENCE_S = 30.0  # how long a server may be silent
_Value = TypeVar("_Value")


class Turning(Channel):
    """Owns a loop that turns during each call, and only then.

    A member sends in `_ask`, calls `_heard` with each echo and `_gone` when the server is lost.
    """

    def _turn(self) -> None:
        """Make the loop; the first thing in `_join`."""
        self._loop = asyncio.new_event_loop()
        self._stack.callback(self._loop.close)
        self._on_echo: Callable[[bytes], None] = lambda _: None
        self._lost: asyncio.Future[str] = self._loop.create_future()

    @abstractmethod
    def _ask(self, payload: bytes) -> None:
        """Send a payload."""

    @abstractmethod
    async def _in_a_reply(self) -> None:
        """Return when the first bytes of a reply to FRAME bytes are there."""

    def exchange(self, payload: bytes) -> bytes:
        """Send one payload and return what came back."""
        echo: asyncio.Future[bytes] = self._loop.create_future()
        self._on_echo = echo.set_result
        self._ask(payload)
        return self._run(self._first(echo))

    def round_trips(self, payload: bytes, count: int) -> list[float]:
        """Exchange one payload after the other, each sent by whoever heard the one before."""
        times: list[float] = []
        done: asyncio.Future[None] = self._loop.create_future()
        began = 0.0

        def ask() -> None:
            nonlocal began
            began = time.perf_counter()
            self._ask(payload)

        def heard(echo: bytes) -> None:
            times.append(time.perf_counter() - began)
            if echo != payload:
                done.set_exception(
                    Wrong(f"{self.name}: {len(payload)} bytes were sent, others came back")
                )
            elif len(times) < count:
                ask()
            else:
                done.set_result(None)

        self._on_echo = heard
        self._loop.call_soon(ask)
        self._run(self._first(done))
        return times

    def converse(self, payloads: Sequence[bytes]) -> None:
        """Exchange the payloads in order."""
        window = Window(payloads)
        done: asyncio.Future[None] = self._loop.create_future()

        def fill() -> None:
            for payload in window.fill():
                self._ask(payload)

        def heard(echo: bytes) -> None:
            try:
                window.take(echo)
            except Wrong as error:
                done.set_exception(error)
                return
            if window.done:
                done.set_result(None)
            else:
                fill()

        self._on_echo = heard
        self._loop.call_soon(fill)
        self._run(self._first(done))

    def hold(self, seconds: float) -> float:
        """Ask a server that stands still; return the longest time in which the loop did so too."""
        with stopped(self._served(), seconds):
            return self._run(self._longest_turn())

    async def _longest_turn(self) -> float:
        echo: asyncio.Future[bytes] = self._loop.create_future()
        self._on_echo = echo.set_result
        longest, last = 0.0, time.perf_counter()
        self._ask(b"?")
        while not echo.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return longest

    def lose(self) -> Loss:
        """Kill the server when the first bytes of its reply are there."""
        return self._run(self._lose())

    async def _lose(self) -> Loss:
        self._on_echo = lambda _: self._gone("nothing: the reply was there before the kill")
        self._ask(bytes(FRAME))
        await self._in_a_reply()
        killed = self._kill()
        sign = await self._lost
        return Loss(time.perf_counter() - killed, sign)

    def _heard(self, echo: bytes) -> None:
        self._on_echo(echo)

    def _gone(self, sign: str) -> None:
        if not self._lost.done():
            self._lost.set_result(sign)

    async def _first(self, wanted: asyncio.Future[_Value]) -> _Value:
        """Return what is wanted; raise EOFError when the server is lost before."""
        await asyncio.wait((wanted, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise EOFError(f"the server of {self.name} is gone: {self._lost.result()}")
        return wanted.result()

    def _run(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        return self._loop.run_until_complete(work)
