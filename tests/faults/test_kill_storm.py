"""The promise of the project, under the worst that can be done to it."""

import json
import os
import random
import signal
import time

import pytest
from bridge_calls import ask
from place import Place, answers_to, until

pytestmark = pytest.mark.early

QUESTIONS, CONVERSATIONS, INSTANCES = 1000, 20, 3
STORM_S, PAUSE_S, CALM_S = 20.0, 0.5, 60.0

CONFIG = f"""
[shards.main]
backend = "echo"
instances = {INSTANCES}
[shards.main.options]
delay = "20ms"
"""


def test_a_thousand_questions_are_answered_once_and_in_order_while_everything_is_killed(
    new_place,
) -> None:
    seed = int(os.environ.get("AUTOPOLL_TEST_SEED") or random.randrange(2**32))
    chance = random.Random(seed)
    place: Place = new_place(CONFIG)
    place.run("up")
    bridge = place.bridge()
    conversations = [
        bridge.conversations.create("asker", "shard").conversation for _ in range(CONVERSATIONS)
    ]
    for conversation in conversations:
        bridge.conversations.serve(conversation, "b", "main")
    asked: dict[str, list[int]] = {conversation: [] for conversation in conversations}
    victims = ["poller", "worker", "worker-main-2", "worker-main-3"]

    kills = 0
    start = time.monotonic()
    per_step = QUESTIONS // int(STORM_S / PAUSE_S)
    for step in range(int(STORM_S / PAUSE_S)):
        for _ in range(per_step):
            conversation = chance.choice(conversations)
            question = json.dumps(
                {"type": "query", "question": f"q{sum(map(len, asked.values()))}"}
            )
            asked[conversation] += ask(bridge, conversation, question)
        victim = chance.choice(victims)
        if place.beat(victim):
            try:
                place.kill(victim, signal.SIGKILL)
                kills += 1
            except (ProcessLookupError, AssertionError):
                pass  # it died between the look and the kill
        next_step = start + (step + 1) * PAUSE_S
        until(lambda at=next_step: time.monotonic() >= at)

    assert sum(map(len, asked.values())) == QUESTIONS
    assert kills > 10, f"seed {seed}: only {kills} kills"

    def unanswered() -> int:
        counts = bridge.overview.counts()
        return QUESTIONS - counts["done"] - counts["dead"]

    until(
        lambda: not unanswered(),
        CALM_S,
        f"the rest of the answers (seed {seed}, {bridge.overview.counts()})",
    )
    for conversation, questions in asked.items():
        got = answers_to(bridge.messages.find(conversation=conversation, limit=10_000))
        assert got == questions, f"seed {seed}: {conversation} lost, doubled or out of order"
    assert bridge.overview.counts()["dead"] == 0, f"seed {seed}: {bridge.overview.dead_letters()}"
    bridge.close()
