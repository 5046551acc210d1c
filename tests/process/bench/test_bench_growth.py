"""The benchmark of growth, shortened: the filled bridges hold what the product would have left."""

import sqlite3
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.cost import growth, history, reading
from bench.cost.prose import Prose
from bench.cost.reading import Reader

TABLES = (
    "conversations", "messages", "deliveries", "answers", "audit_log", "routes", "budgets",
    "session_status",
)  # fmt: skip
# Times and tokens differ in every run.
VARYING = {
    "timestamp", "created_at", "expires_at", "last_heartbeat", "spent_until", "enrolled_at",
    "changed_at", "settled_at", "session_a_token", "session_b_token",
}  # fmt: skip


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def rows(path: Path, table: str, conversations: list[str]) -> list[dict[str, Any]]:
    """Return what a table holds, with conversations numbered in the order given."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    found = [dict(row) for row in db.execute(f"SELECT * FROM {table}")]
    db.close()
    numbers = {name: number for number, name in enumerate(conversations)}
    plain = [
        {key: numbers.get(value, value) for key, value in row.items() if key not in VARYING}
        for row in found
    ]
    if table in ("audit_log", "routes"):  # numbered in the order of writing, which is another
        for row in plain:
            del row["id"]
    return sorted(plain, key=repr)


def asked(path: Path, names: list[str], questions: int) -> list[str]:
    """Make by the product alone what `history` makes in bulk."""
    bridge = history.open_store(path, create=True)
    bridge.take_over(history.OWNER)
    conversations = []
    for _ in names:
        tokens = bridge.create_conversation("asker", "memory")
        bridge.serve(tokens.conversation, "b", history.SHARD)
        bridge.authenticate(tokens.conversation, tokens.a)
        conversations.append(tokens.conversation)
    bridge.announce()
    for number in range(questions):
        history.ask(bridge, conversations[number % len(conversations)], history.OWN_LANE)
        history.settle(bridge, history.claim(bridge))
    bridge.close()
    return conversations


def test_a_bridge_filled_in_bulk_holds_the_rows_of_one_that_was_asked(tmp_path: Path) -> None:
    names = history.answered(tmp_path / "bulk.db", 400)
    assert len(names) == 2
    theirs = asked(tmp_path / "asked.db", names, 200)
    for table in TABLES:
        found = rows(tmp_path / "bulk.db", table, names)
        assert found == rows(tmp_path / "asked.db", table, theirs)
        assert found


def test_a_queue_filled_in_bulk_is_answered_in_its_order(tmp_path: Path) -> None:
    history.queued(tmp_path / "queued.db", 50)
    bridge = history.open_store(tmp_path / "queued.db")
    bridge.take_over(history.OWNER)
    assert bridge.counts() == {"queued": 49, "ready": 1, "leased": 0, "done": 0, "dead": 0}
    for number in range(1, 51):
        claimed = history.claim(bridge)
        assert claimed == (number, 1)
        history.settle(bridge, claimed)
    assert bridge.counts()["done"] == 50
    bridge.close()


def test_the_same_seed_writes_and_asks_the_same(tmp_path: Path) -> None:
    for name in ("one", "other"):
        Prose(7).write(tmp_path / name, 45_000)
    chapters = sorted((tmp_path / "one").iterdir())
    assert [each.stat().st_size for each in chapters] == [20_000, 20_000, 5_000]
    assert [each.read_text() for each in chapters] == [
        (tmp_path / "other" / each.name).read_text() for each in chapters
    ]
    assert Prose(7).question() == Prose(7).question() != Prose(8).question()


def test_a_reader_that_cannot_index_is_told_of_and_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(RuntimeError, match="reader ended with 1"):
        Reader(tmp_path / "missing")
    assert children() == before


def test_growth_is_measured_beside_an_empty_bridge(tmp_path: Path) -> None:
    before = children()
    figures = {each.name: each for each in growth.measure(0.01, tmp_path, lambda _: None)}
    assert [name for name, each in figures.items() if each.target] == ["claim, 10,000 messages"]
    claim = figures["claim, 10,000 messages"]
    assert (claim.floor, claim.target) == ("claim, 0 messages", 1.5)
    assert figures["size of database, 10,000 messages"].value > 1e6
    assert all(each.value > 0 for each in figures.values())
    assert all(each.floor in figures for each in figures.values() if each.ratio)
    assert figures["memory of the index of 1 MB of context"].value > 1e6
    assert children() == before


def test_a_context_over_the_limit_of_extract_is_cut_down_and_the_figure_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cost.reading.LARGEST", 300_000)
    figures = {each.name: each for each in reading.measure(0.01, tmp_path, lambda _: None)}
    assert "in place of 1 MB" in figures["question to 0.3 MB of context"].note
    assert figures["question to 0.1 MB of context"].note == ""
