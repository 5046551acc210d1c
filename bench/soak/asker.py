"""Asks a home batch after batch and misses no answer, whatever is restarted meanwhile."""

import time
from contextlib import suppress

from autopoll.bridge.protocols import Bridge
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import Down
from autopoll.home.config import Config
from autopoll.home.home import Home

BATCH = 100
PATIENCE_S = 180.0  # for a batch; a restart of everything takes some seconds


class Asker:
    """Somebody who always has a batch of questions out; counts what is asked and answered wrong.

    With a `rate`, batches are begun so that there are no more than that many questions a second.
    """

    def __init__(
        self, home: Home, config: Config, bridge: Bridge, rate: float | None = None
    ) -> None:
        self._pause = 1 / rate if rate else 0.0  # seconds that a question is worth
        self._next = 0.0
        self.asked = 0
        self.wrong = 0
        self._home = home
        self._client = Client(home, config, bridge)

    def batch(self, size: int) -> list[float]:
        """Ask a batch and return how long each answer took (ms); raise TimedOut for a lost one."""
        questions = [f"question {self.asked + number}" for number in range(size)]
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + size * self._pause
        took: list[float] = []
        # A new one each time: when everything is restarted, bells in var/run go with the rest.
        with PollerConnection(self._home) as connection:
            began = time.perf_counter()
            ids = self._client.ask(questions, "main", connection=connection).ids
            while len(took) < size:
                with suppress(Down):  # it is only away: the question is kept, and the wait goes on
                    for result in self._client.wait(
                        ids[len(took) :], connection, timeout=PATIENCE_S
                    ):
                        self.wrong += result.answer != questions[len(took)]
                        took.append(1000 * (time.perf_counter() - began))
        self.asked += size
        return took
