"""The store under test, of every engine, and a bridge on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bridge_stores import ENGINES, Store

from autopoll.bridge.protocols import Bridge


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = ENGINES[request.param](tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def bridge(store: Store) -> Bridge:
    return store.open()
