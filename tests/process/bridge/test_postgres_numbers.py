"""Numbers of rows do not commit in their order, and not in that in which transactions begin."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from bridge_calls import ask, talk
from postgres_server import DatabaseServer
from postgres_store import PostgresStore, PostgresStores

INSERT = "INSERT INTO autopoll.messages(conversation_id,to_session,message) VALUES(%s,'b',%s)"


@pytest.fixture
def store(postgres: DatabaseServer) -> Iterator[PostgresStore]:
    stores = PostgresStores(postgres)
    yield (made := stores.new())
    made.close()
    stores.close()


@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_row_is_shown_only_when_every_one_below_its_number_is_committed(
    store: PostgresStore, begun: str
) -> None:
    bridge = store.open()
    conversation = talk(bridge, None)
    (first,) = ask(bridge, conversation, "first")

    def new() -> list[str]:
        return [each.text for each in bridge.messages.find(after=first)]

    with ExitStack() as closing:
        slow, quick = (closing.enter_context(psycopg.connect(store.url)) for _ in range(2))
        if begun == "before":  # its transaction has the smaller number, and its row the larger
            quick.execute("SELECT pg_current_xact_id()")
        slow.execute(INSERT, (conversation, "slow"))
        quick.execute(INSERT, (conversation, "quick"))
        quick.commit()
        assert new() == []
        slow.commit()
        assert new() == ["slow", "quick"]


def test_a_row_is_shown_though_an_older_transaction_has_written_elsewhere(
    store: PostgresStore,
) -> None:
    """One that is open for long, as a backup or a forgotten session, and takes no number."""
    bridge = store.open()
    conversation = talk(bridge, None)
    (first,) = ask(bridge, conversation, "first")
    with psycopg.connect(store.url) as older:
        older.execute("CREATE TEMP TABLE mine AS SELECT 1")
        ask(bridge, conversation, "second")
        shown = [each.text for each in bridge.messages.find(after=first)]
        assert shown in ([], ["second"]), "what waits is late, and not lost"
    assert [each.text for each in bridge.messages.find(after=first)] == ["second"]
