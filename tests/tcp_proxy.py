"""A proxy before a server that speaks TCP, for every fault that a network has.

It knows one thing of PostgreSQL: how a server says that it has committed.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from loopback_proxy import HOST, LoopbackProxy

COMMIT = b"COMMIT\0"  # whether it was asked in words, or by the name of a prepared statement


class TcpProxy(LoopbackProxy):
    """Passes on what comes, to and from a port on 127.0.0.1, unless it is told otherwise.

    `delay_s` is how long each piece takes, in either direction.
    """

    def __init__(self, upstream: int) -> None:
        super().__init__()
        self.delay_s = 0.0
        self.cut_a_commit = threading.Event()  # and its client does not know that it was done
        self._upstream = upstream
        self._connections: set[_Connection] = set()
        self._cuts_next_commit = False
        self._swallows = False

    def cut(self) -> None:
        """Cut every connection at once."""
        self._run(self._each(_Connection.abort))

    def refuse(self) -> None:
        """Refuse whoever connects from now on."""
        self._run(self._listen_no_more())

    def swallow(self) -> None:
        """Take everything and pass nothing on, either way, as where a machine has vanished."""
        self._swallows = True
        self._run(self._each(_Connection.fall_silent))

    def mend(self) -> None:
        """Take new connections and pass on what they send; those that fell silent remain so."""
        self._swallows = False
        self._run(self._listen())

    def cut_next_commit(self) -> None:
        """Have the server do the next COMMIT, and cut the connection in place of its answer."""
        self.cut_a_commit.clear()
        self._cuts_next_commit = True

    async def _each(self, do: "Callable[[_Connection], None]") -> None:
        for connection in self._connections:
            do(connection)

    async def _forward(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        connection = _Connection(answer)
        self._connections.add(connection)
        try:
            with contextlib.suppress(ConnectionError):  # one end is gone, and the other is cut
                server, request = await asyncio.open_connection(HOST, self._upstream)
                connection.writers.append(request)
                asked = self._pass_on(connection, client, request)
                answered = self._pass_on(connection, server, answer)
                await asyncio.gather(asked, answered)
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _pass_on(
        self,
        connection: "_Connection",
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
    ) -> None:
        while data := await source.read(64 * 1024):
            await asyncio.sleep(self.delay_s)
            connection.silent |= self._swallows
            if self._cuts_next_commit and COMMIT in data and target is connection.writers[0]:
                self._cuts_next_commit = False
                connection.abort()
                self.cut_a_commit.set()
                return
            if not connection.silent:
                target.write(data)
                await target.drain()
        if not connection.silent:
            target.close()


class _Connection:
    """Both ends of one connection, and what has become of it."""

    def __init__(self, answer: asyncio.StreamWriter) -> None:
        self.writers = [answer]
        self.silent = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        self.silent = True
