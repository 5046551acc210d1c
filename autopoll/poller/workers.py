"""The workers that a poller sends requests to, and how their set changes while it runs.

A worker that was removed from the settings is sent nothing new. It finishes what it has, and its
link is closed after that: nobody else's question is touched.
"""

import logging
from collections.abc import Callable, Container
from functools import partial

from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.process.heartbeat_writer import Heart
from fifo.client_end import ClientEnd
from fifo.events import (
    ClientEvent,
    Connected,
    Disconnected,
    FailureReceived,
    ProgressReceived,
    ProtocolFault,
    ReplyReceived,
    Unreachable,
)
from fifo.handed_link import HandedLink

Listener = Callable[[str, ClientEvent], None]

log = logging.getLogger(__name__)


class Workers:
    """The links to the workers by name, and the credits on each."""

    def __init__(self, home: Home, config: Config, heart: Heart, on_event: Listener) -> None:
        self._shards: dict[str, str] = {}  # worker -> shard, of those in the settings
        self._links: dict[str, ClientEnd] = {}  # the same workers
        self._removed: dict[str, ClientEnd] = {}
        self._pids: dict[str, int] = {}  # of the workers, at the last connection
        self._home = home
        self._heart = heart
        self._on_event = on_event
        self.update(config)

    def update(self, config: Config) -> None:
        """Add the workers that are new in the settings, and send nothing more to the others."""
        wanted = config.instances()
        for name in self._links.keys() - wanted.keys():
            self._removed[name] = self._links.pop(name)
        for name in wanted.keys() - self._links.keys():
            known = name in self._removed
            self._links[name] = self._removed.pop(name) if known else self._new_link(name)
        self._shards = wanted

    def connect(self) -> None:
        """Connect to the workers that have published their pipes since the last look."""
        for each in self._links.values():
            if not each.connected:
                each.poke()

    def check(self, busy: Container[str]) -> None:
        """Connect where a worker was replaced, and close the links that nobody needs any more.

        `busy` are the workers that have not answered everything. To be called once a second.
        """
        for name in [name for name in self._removed if name not in busy]:
            self._removed.pop(name).close()
        for each in self._links.values():
            each.poke()

    def credits(self) -> dict[str, int]:
        """Return how many requests the workers of each shard can take now."""
        found = dict.fromkeys(self._shards.values(), 0)
        for name, shard in self._shards.items():
            found[shard] += self._links[name].free
        return found

    def with_most_credits(self, shard: str) -> str:
        """Return the worker of a shard that can take most requests now."""
        names = (name for name, each in self._shards.items() if each == shard)
        return max(names, key=lambda name: self._links[name].free)

    def pid(self, worker: str) -> int:
        """Return the process id of a worker that is connected; 0 for one that never was."""
        return self._pids.get(worker, 0)

    def send(self, worker: str, request_id: int, payload: bytes) -> None:
        """Send a request; raises NoCredit, NotConnected or TooLarge."""
        self._links[worker].request(request_id, payload)

    def cancel(self, worker: str, request_id: int) -> None:
        """Ask a worker to cancel a request, which still ends with one event."""
        if found := self._link(worker):
            found.cancel(request_id)

    def disconnect(self, worker: str, reason: str) -> None:
        """Give up the link to a worker, and connect again when it offers another one."""
        if found := self._link(worker):
            found.hang_up(reason)

    def hand_over(self) -> dict[str, HandedLink]:
        """Return the open links by worker, for the program that goes on with them."""
        ends = {**self._removed, **self._links}
        return {name: link for name, end in ends.items() if (link := end.hand_over())}

    def go_on(self, handed: dict[str, HandedLink]) -> None:
        """Take up the links that were handed over, also to workers that are in no settings now."""
        for name, link in handed.items():
            if name not in self._links:
                self._removed[name] = self._new_link(name)
            self._pids[name] = link.endpoint.pid
            (self._links.get(name) or self._removed[name]).go_on(link)

    def close(self) -> None:
        """Close all links."""
        for each in (*self._links.values(), *self._removed.values()):
            each.close()

    def _link(self, worker: str) -> ClientEnd | None:
        return self._links.get(worker) or self._removed.get(worker)

    def _new_link(self, worker: str) -> ClientEnd:
        return ClientEnd(self._home.workers / worker, on_event=partial(self._on_link, worker))

    def _on_link(self, worker: str, event: ClientEvent) -> None:
        match event:
            case ProgressReceived() | ReplyReceived() | FailureReceived():  # what comes most often
                pass
            case Connected(pid=pid):
                self._pids[worker] = pid
                log.info("%s: %s", worker, event)
            case Disconnected(reason=reason, in_flight=in_flight):
                log.warning(
                    "the link to %s ended: %s; requests in flight: %d",
                    worker, reason, len(in_flight),
                )  # fmt: skip
                if in_flight:
                    self._heart.pipe_failed()
            case _:
                log.info("%s: %s", worker, event)
                if isinstance(event, ProtocolFault | Unreachable):
                    self._heart.pipe_failed()
        self._on_event(worker, event)
