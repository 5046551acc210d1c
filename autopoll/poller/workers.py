"""The instances that a poller hands questions to, and how their set changes while it works.

An instance that is no longer wanted is given nothing new. What it has in hand it finishes, and its
end of the pipes is closed after that: nobody else's question is touched.
"""

from collections.abc import Callable, Container

from autopoll.home.config import Config
from autopoll.home.home import Home
from fifo.client_end import ClientEnd
from fifo.events import ClientEvent

Listener = Callable[[str, ClientEvent], None]


class Roster:
    """The clients of a poller by the name of their worker, changed in place."""

    def __init__(self, home: Home, config: Config, on_event: Listener) -> None:
        self.shards: dict[str, str] = {}  # worker -> shard, of those that are wanted
        self.clients: dict[str, ClientEnd] = {}  # the same
        self._leaving: dict[str, ClientEnd] = {}
        self._home = home
        self._on_event = on_event
        self.update(config)

    def update(self, config: Config) -> None:
        """Take in who is wanted now, and give nothing more to who is not."""
        wanted = config.instances()
        for name in self.clients.keys() - wanted.keys():
            self._leaving[name] = self.clients.pop(name)
        for name in wanted.keys() - self.clients.keys():
            left = name in self._leaving
            self.clients[name] = self._leaving.pop(name) if left else self._new(name)
        self.shards.clear()
        self.shards.update(wanted)

    def let_go(self, working: Container[str]) -> None:
        """Close those who are not wanted and have nothing in hand."""
        for name in [name for name in self._leaving if name not in working]:
            self._leaving.pop(name).close()

    def cancel(self, name: str, request_id: int) -> None:
        """Ask whoever has the request to give it up."""
        if client := self.clients.get(name) or self._leaving.get(name):
            client.cancel(request_id)

    def hang_up(self, name: str, reason: str) -> None:
        """Give up the link to a worker, and take up the next one that it offers."""
        if client := self.clients.get(name) or self._leaving.get(name):
            client.hang_up(reason)

    def close(self) -> None:
        """Say goodbye to all."""
        for client in (*self.clients.values(), *self._leaving.values()):
            client.close()

    def _new(self, name: str) -> ClientEnd:
        return ClientEnd(
            self._home.workers / name, on_event=lambda event: self._on_event(name, event)
        )
