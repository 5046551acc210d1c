"""The promise over three homes on one server: processes, whole homes and the server are killed."""

import json
import os
import random
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path

import commands
import pytest
from bridge_calls import ask
from hosts import home_on, kill, up
from place import Place, answers_to, until
from postgres_server import PostgresServer

from autopoll.bridge.protocols import Bridge
from autopoll.errors import BridgeUnavailable, Exit

pytestmark = pytest.mark.early

SHARDS = '[shards.main]\nbackend = "echo"\n[shards.main.options]\ndelay = "20ms"\n'
PAUSE_S, CALM_S = 0.5, 90.0


class Storm:
    """Three homes, conversations that all of them answer, and what was asked in each."""

    def __init__(self, folder: Path, stack: ExitStack, conversations: int) -> None:
        seed = int(os.environ.get("AUTOPOLL_TEST_SEED") or random.randrange(2**32))
        self.about = f"seed {seed}"
        self.kills = 0
        self._chance = random.Random(seed)
        self._server = stack.enter_context(PostgresServer())
        self._places = [home_on(folder / name, self._server.url(), SHARDS) for name in "abc"]
        for place in self._places:
            stack.callback(place.close)
        up(self._places)
        self._starting: list[tuple[Place, commands.Forked | subprocess.Popen[str]]] = []
        self.bridge: Bridge = stack.enter_context(closing(self._places[0].bridge()))
        made = [self.bridge.conversations.create("asker", "shard") for _ in range(conversations)]
        self.asked: dict[str, list[int]] = {each.conversation: [] for each in made}
        for conversation in self.asked:
            self.bridge.conversations.serve(conversation, "b", "main")

    def rage(self, questions: int, steps: int) -> None:
        """Ask so many questions in so many steps, and kill something in each."""
        start = time.monotonic()
        for step in range(steps):
            self._ask((step + 1) * questions // steps - step * questions // steps)
            strike = self._restart_server if step == steps // 2 else self._kill_something
            strike()
            self._see_to_killed_homes()
            until(lambda at=start + (step + 1) * PAUSE_S: time.monotonic() >= at)

    def calm(self) -> None:
        """Wait until everything is settled, with every home up again."""
        while self._starting:
            self._see_to_killed_homes()
        total = sum(map(len, self.asked.values()))
        until(lambda: sum(self._settled()) == total, CALM_S, f"the rest ({self.about}, {total})")

    def _settled(self) -> tuple[int, int]:
        counts = self.bridge.overview.counts()
        return counts["done"], counts["dead"]

    def _ask(self, count: int) -> None:
        for _ in range(count):
            conversation = self._chance.choice(list(self.asked))
            number = sum(map(len, self.asked.values()))
            question = json.dumps({"type": "query", "query_id": "same", "question": f"q{number}"})
            self.asked[conversation] += ask(self.bridge, conversation, question)

    def _kill_something(self) -> None:
        """Kill a poller, a worker, or a whole home, which is then brought up again."""
        place = self._chance.choice(self._places)
        victim = self._chance.choice(["poller", "poller", "worker", "worker", "home"])
        if any(place is each for each, _ in self._starting):
            return
        if victim == "home":
            kill(place)
            self._starting.append((place, place.start("up")))
            self.kills += 1
        elif place.beat(victim):
            try:
                place.kill(victim)
                self.kills += 1
            except (ProcessLookupError, AssertionError):
                pass  # it died between the look and the kill

    def _see_to_killed_homes(self) -> None:
        """Look which of them are up again."""
        for place, starting in list(self._starting):
            if starting.poll() is None:
                continue
            self._starting.remove((place, starting))
            out, err = starting.communicate()
            if (
                starting.returncode in (Exit.FAILED, Exit.DOWN) and "PostgreSQL" in err
            ):  # it was away
                self._starting.append((place, place.start("up")))
            else:
                assert starting.returncode == 0, (self.about, place.root, out, err)

    def _restart_server(self) -> None:
        self._server.stop("immediate")
        self._server.start()
        until(self._is_reached, 30, "the server to be reached")

    def _is_reached(self) -> bool:
        try:
            self.bridge.overview.counts()
        except BridgeUnavailable:
            return False
        return True


@pytest.mark.parametrize(
    ("questions", "steps", "conversations"),
    [(50, 10, 5), pytest.param(1000, 60, 20, marks=pytest.mark.long)],
)
def test_all_questions_are_answered_once_and_in_order_while_hosts_and_server_are_killed(
    tmp_path: Path, questions: int, steps: int, conversations: int
) -> None:
    with ExitStack() as stack:
        storm = Storm(tmp_path, stack, conversations)
        storm.rage(questions, steps)
        storm.calm()
        assert storm.kills > steps // 4, f"{storm.about}: only {storm.kills} kills"
        for conversation, asked in storm.asked.items():
            found = storm.bridge.messages.find(conversation=conversation, limit=10_000)
            assert answers_to(found) == asked, f"{storm.about}: {conversation}"
        dead = storm.bridge.overview.dead_letters()
        assert dead == [], storm.about
