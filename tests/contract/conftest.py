"""The store under test, of every engine, and a bridge on it."""

from collections.abc import Callable, Iterator

import pytest
from bridge_stores import ENGINES, SqliteStore, Store

from autopoll.bridge.protocols import Bridge


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """Make an empty store of an engine."""

    def make(engine: str) -> Store:
        return SqliteStore(tmp_path_factory.mktemp(engine))

    return make


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, new_store: Callable[[str], Store]) -> Iterator[Store]:
    opened = new_store(request.param)
    yield opened
    opened.close()


@pytest.fixture
def bridge(store: Store) -> Bridge:
    return store.open()
