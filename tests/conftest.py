"""Fixtures for all tests that need a whole home."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from place import ECHO, Place
from postgres_server import DatabaseServer, server_for_tests

# A shell that starts the tests in the background has them ignore Ctrl-C, and all they start too;
# nohup has them ignore the end of the terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Else each of the thousands of processes would compile the product again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or the others would all wait for them in the end."""
    items.sort(
        key=lambda item: not (item.get_closest_marker("long") or item.get_closest_marker("early"))
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """A PostgreSQL server, started for the first test that wants it."""
    with server_for_tests() as server:
        yield server


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[str]:
    """The URL of an empty database on PostgreSQL."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets of homes with long paths."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def new_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Make homes that are taken down when the test ends."""
    with ExitStack() as closing:

        def make(config: str = ECHO, name: str = "home") -> Place:
            place = Place(tmp_path / name, config)
            closing.callback(place.close)
            return place

        yield make
