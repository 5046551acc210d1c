"""The store under test, of every engine, and a bridge on it."""

from collections.abc import Callable, Iterator

import pytest
from bridge_stores import ENGINES, SqliteStore, Store
from postgres_server import DatabaseServer
from postgres_store import PostgresStores

from autopoll.bridge.protocols import Bridge


@pytest.fixture(scope="session")
def new_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Store]:
    """Make an empty store of an engine; the server is started for the first that needs it."""

    def make(engine: str) -> Store:
        if engine == "sqlite":
            return SqliteStore(tmp_path_factory.mktemp(engine))
        stores: PostgresStores = request.getfixturevalue("postgres_stores")
        return stores.new()

    return make


@pytest.fixture(scope="session")
def postgres_stores(postgres: DatabaseServer) -> Iterator[PostgresStores]:
    stores = PostgresStores(postgres)
    yield stores
    stores.close()


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, new_store: Callable[[str], Store]) -> Iterator[Store]:
    opened = new_store(request.param)
    yield opened
    opened.close()


@pytest.fixture
def bridge(store: Store) -> Bridge:
    return store.open()
