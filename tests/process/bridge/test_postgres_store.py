"""The databases that the contract is tested on are used again only as if they were new."""

from bridge_calls import answered, ask, claim_one, settle, talk
from postgres_server import DatabaseServer
from postgres_store import PostgresStore, PostgresStores


def used(stores: PostgresStores) -> tuple[PostgresStore, int, list[tuple[str]]]:
    """Return a store in which something was answered, the number of that, and its database."""
    store = stores.new()
    bridge = store.open()
    (asked,) = ask(bridge, talk(bridge), "why?")
    settle(bridge, answered(claim_one(bridge)))
    return store, asked, store.foreign("SELECT current_database()")


def test_a_store_begins_empty_and_counts_from_one_in_the_database_of_the_one_before(
    postgres: DatabaseServer,
) -> None:
    stores = PostgresStores(postgres)
    store, first, database = used(stores)
    store.clock.now += 1000
    store.close()
    store = stores.new()
    assert store.foreign("SELECT autopoll.now_ms()") == [(store.clock.now,)]
    for table in ("conversations", "messages", "deliveries", "answers", "audit_log", "pollers"):
        assert store.foreign(f"SELECT count(*) FROM {table}") == [(0,)]
    store.close()
    store, again, same = used(stores)
    assert (again, same) == (first, database)
    store.close()
    stores.close()
    assert postgres.run_sql("SELECT 1 FROM pg_database WHERE datname=%s", *database[0]) == []


def test_a_database_whose_schema_was_changed_is_used_by_no_other(postgres: DatabaseServer) -> None:
    stores = PostgresStores(postgres)
    for change in (
        "ALTER TABLE messages ADD COLUMN more text",
        "CREATE TABLE autopoll.another()",
        "UPDATE autopoll.schema SET version=version+1",
        "DROP TRIGGER set_back ON messages",
    ):
        store, _, database = used(stores)
        store.foreign(change)
        store.close()
        assert postgres.run_sql("SELECT 1 FROM pg_database WHERE datname=%s", *database[0]) == []
    stores.close()
