"""Forgetting beside claims and settles, with kill -9 in the middle of any of it."""

import json
import os
import random
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from bridge_calls import ask_many
from store_workers import LEASE_MS, LIMITS, chance_of_test, start, stop

from autopoll.bridge.records import Answered
from autopoll.bridge.retention_protocol import Ages, SweepPlace
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.message import Answer

CONVERSATIONS, EACH = 8, 60
STORM_S, CALM_S = 3.0, 90.0


@pytest.mark.timeout(200)
def test_killed_claimers_and_pruners_answer_each_once_in_order_and_forget_only_what_is_over(
    tmp_path: Path,
) -> None:
    chance = chance_of_test()
    path = tmp_path / "bridge.db"
    sent = ask_all(path)
    tasks = [claim, claim, prune, prune]
    running = [start(path, task) for task in tasks]
    calm = time.monotonic() + STORM_S
    while time.monotonic() < calm:
        time.sleep(chance.uniform(0.005, 0.05))
        victim = chance.randrange(len(running))
        assert running[victim].exitcode is None, "it failed by itself"
        running[victim].kill()
        running[victim].join()
        running[victim] = start(path, tasks[victim])
    end = time.monotonic() + CALM_S
    while left(path) and time.monotonic() < end:
        time.sleep(0.05)
    stop(running)

    db = apsw.Connection(str(path))
    assert db.pragma("integrity_check") == "ok"
    settled: dict[str, list[int]] = defaultdict(list)
    for conversation, details in db.execute(
        "SELECT conversation_id, details FROM audit_log WHERE action='query_answered' ORDER BY id"
    ):
        settled[conversation].append(json.loads(details)["message_id"])
    assert settled == sent, "lost, twice or out of order"
    for table in ("messages", "deliveries", "answers"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)], table
    db.close()


def ask_all(path: Path) -> dict[str, list[int]]:
    """Send everything, in lanes; the asker has read every answer as soon as it is there."""
    with closing(SqliteBridge(path, LIMITS, create=True)) as bridge:
        names = [bridge.conversations.create("a", "b").conversation for _ in range(CONVERSATIONS)]
        for name in names:
            bridge.conversations.serve(name, "b", "main")
        sent = {name: ask_many(bridge, name, EACH) for name in names}
    with closing(apsw.Connection(str(path))) as db:
        db.execute(
            "CREATE TRIGGER read_at_once AFTER INSERT ON answers BEGIN"
            " UPDATE messages SET read=1 WHERE id=new.answer_id; END"
        )
    return sent


def claim(bridge: SqliteBridge) -> None:
    chance = random.Random()
    owner = f"owner {os.getpid()}"
    while True:
        bridge.deliveries.reap()
        taken = bridge.deliveries.claim(owner, {"main": chance.randint(1, 4)}, LEASE_MS)
        time.sleep(chance.uniform(0, 0.004))
        bridge.deliveries.settle(
            [
                Answered(message_id=one.message_id, fence=one.fence, answer=Answer(text="yes"))
                for one in taken
            ],
            owner,
        )


def prune(bridge: SqliteBridge) -> None:
    chance = random.Random()
    place: SweepPlace | None = SweepPlace()
    while True:
        most = chance.randint(1, 10)
        place = bridge.retention.sweep(Ages(answered=0), place or SweepPlace(), most).next
        time.sleep(chance.uniform(0, 0.01))


def left(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as db:
        db.set_busy_timeout(5000)
        [(number,)] = db.execute("SELECT count(*) FROM messages").fetchall()
    return int(number)
