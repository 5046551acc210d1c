"""The promise at the level of the store: whoever dies, nothing is lost, twice or out of order."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import apsw
import legacy
import pytest
from bridge_calls import ask
from store_workers import FORK, LEASE_MS, LIMITS, StoreWorker, Work, chance_of_test, start, stop

from autopoll.bridge.records import Answered, Arrival, Outcome, Released
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.message import Answer

CONVERSATIONS, EACH = 12, 60
STORM_S, CALM_S = 4.0, 90.0


@pytest.mark.long
@pytest.mark.timeout(240)
def test_killed_claimers_and_writers_lose_nothing_double_nothing_and_keep_the_order(
    tmp_path: Path,
) -> None:
    chance = chance_of_test()
    path = tmp_path / "bridge.db"
    conversations = make_store(path, CONVERSATIONS)
    rival_talk = shared_talk(path)
    half = len(conversations) // 2
    tasks: list[Work] = [claim] * 4
    for own, send in ((conversations[:half], write), (conversations[half:], repeat)):
        tasks.append(lambda bridge, own=own, send=send: send(bridge, own))
    running = [start(path, task) for task in tasks]
    rival = subprocess.Popen([sys.executable, legacy.__file__, path, rival_talk, str(EACH)])
    foreign = FORK.Process(target=write_as_foreign, args=(path, rival_talk), daemon=True)
    foreign.start()

    kills, calm = 0, time.monotonic() + STORM_S
    while time.monotonic() < calm:
        time.sleep(chance.uniform(0.005, 0.05))
        victim = chance.randrange(len(running))
        assert_none_has_failed(running)
        running[victim].kill()
        running[victim].join()
        running[victim] = start(path, tasks[victim])
        kills += 1
    end = time.monotonic() + CALM_S
    while not finished(path) and time.monotonic() < end:
        assert_none_has_failed(running)
        time.sleep(0.02)
    assert_none_has_failed(running)
    stop(running)
    foreign.join(CALM_S)
    assert foreign.exitcode == 0
    assert rival.wait(CALM_S) == 0
    print(f"{kills} kills")

    db = apsw.Connection(str(path))
    assert db.pragma("integrity_check") == "ok"
    for conversation in conversations:
        asked = db.execute(
            "SELECT m.message, a.answer_id, r.message, a.fence FROM messages m"
            " LEFT JOIN answers a ON a.query_id=m.id LEFT JOIN messages r ON r.id=a.answer_id"
            " WHERE m.conversation_id=? AND m.from_session='a' ORDER BY m.id",
            (conversation,),
        ).fetchall()
        texts = [text for text, _, _, _ in asked]
        assert [int(text.split()[-1]) for text in texts] == list(range(EACH)), "lost or twice"
        # Whoever answered held the lease: the fence it knew is the one it was settled under.
        expected = [f"re {text} #{fence}" for text, _, _, fence in asked]
        assert [reply for _, _, reply, _ in asked] == expected
        answers = [answer for _, answer, _, _ in asked]
        assert answers == sorted(answers), "out of order"
        ((rows,),) = db.execute(
            "SELECT count(*) FROM messages WHERE conversation_id=? AND from_session='b'",
            (conversation,),
        )
        assert rows == EACH
    replies = db.execute(
        "SELECT message FROM messages WHERE conversation_id=? AND from_session='b'", (rival_talk,)
    ).fetchall()
    numbers = [int(text.split()[1]) for (text,) in replies]  # "rival: 7" or "re 7 #1"
    assert sorted(numbers) == list(range(EACH)), "the legacy reader and autopoll both took one"
    db.close()


def make_store(path: Path, count: int) -> list[str]:
    bridge = SqliteBridge(path, LIMITS, create=True)
    names = [bridge.conversations.create("asker", "shard").conversation for _ in range(count)]
    for name in names:
        bridge.conversations.serve(name, "b", "main")
    bridge.close()  # a connection must not be carried into a forked process
    return names


def shared_talk(path: Path) -> str:
    """One conversation more, that a legacy reader empties at the same time."""
    bridge = SqliteBridge(path, LIMITS)
    name = bridge.conversations.create("asker", "shard").conversation
    bridge.conversations.serve(name, "b", "main")
    bridge.close()
    return name


def assert_none_has_failed(running: list[StoreWorker]) -> None:
    """Each still runs, or had nothing left to do."""
    assert [each.exitcode for each in running if each.exitcode] == []


def claim(bridge: SqliteBridge) -> None:
    """Take, work for a moment, settle; sometimes too late, sometimes give back or go too far."""
    chance = random.Random()
    owner = f"owner {os.getpid()}"
    while True:
        bridge.deliveries.reap()
        taken = bridge.deliveries.claim(owner, {"main": chance.randint(1, 4)}, LEASE_MS)
        time.sleep(0.3 if taken and chance.random() < 0.05 else chance.uniform(0, 0.004))
        if chance.random() < 0.5:
            bridge.deliveries.renew([(one.message_id, one.fence) for one in taken], owner, LEASE_MS)
        outcomes: list[Outcome] = [
            Released(message_id=one.message_id, fence=one.fence)
            if chance.random() < 0.1
            else Answered(
                message_id=one.message_id,
                fence=one.fence,
                answer=Answer(text=f"re {one.text} #{one.fence}"),
            )
            for one in taken
        ]
        bridge.deliveries.settle(outcomes, owner)


def write(bridge: SqliteBridge, conversations: list[str]) -> None:
    """Send 0 to EACH in each conversation, carrying on where a dead one stopped."""
    chance = random.Random()
    left = set(conversations)
    while left:
        conversation = chance.choice(sorted(left))
        sent = [
            m
            for m in bridge.messages.find(conversation=conversation, limit=10_000)
            if m.sender == "a"
        ]
        if len(sent) == EACH:
            left.discard(conversation)
            continue
        batch = range(len(sent), min(EACH, len(sent) + chance.randint(1, 5)))
        ask(bridge, conversation, *map(str, batch))
        time.sleep(chance.uniform(0, 0.02))


def repeat(bridge: SqliteBridge, conversations: list[str]) -> None:
    """Store 0 to EACH in each conversation, from the beginning in each life, without a look."""
    chance = random.Random()
    for first in range(0, EACH, 5):
        for conversation in conversations:
            arrivals = [asked(conversation, number) for number in range(first, first + 5)]
            if chance.random() < 0.5:
                bridge.messages.store(arrivals)
            else:
                bridge.deliveries.commit_turn(arrivals, [], "repeater", {}, LEASE_MS)
        time.sleep(chance.uniform(0, 0.02))


def asked(conversation: str, number: int) -> Arrival:
    query_id = f"q-{conversation[-8:]}-{number:04d}"
    text = f"{query_id} {number}"
    return Arrival(
        query_id=query_id, conversation=conversation, session="a", text=text, repeated=True
    )


def write_as_foreign(path: Path, conversation: str) -> None:
    client = legacy.Legacy(path)  # alone in its process: SQLite must not be in one process twice
    for number in range(EACH):
        client.insert(conversation, str(number))
        time.sleep(0.02)


def finished(path: Path) -> bool:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5000)
    ((asked, answered),) = db.execute(
        "SELECT (SELECT count(*) FROM messages WHERE from_session='a'),"
        " (SELECT count(*) FROM messages WHERE from_session='b')"
    )
    db.close()
    return bool(asked == answered == (CONVERSATIONS + 1) * EACH)
