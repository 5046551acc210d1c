"""A prepared home, its bridge, and commands that are run on it in this process."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prepared_home import Run, prepared_home

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.cli import main
from autopoll.home.config import load
from autopoll.home.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared_home(tmp_path)


@pytest.fixture
def bridge(home: Home) -> Iterator[Bridge]:
    with closing(connect(home, load(home, {}))) as bridge:
        yield bridge


@pytest.fixture
def run(home: Home, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command that is run on the home; returns its exit code, stdout and stderr."""

    def go(*args: str) -> tuple[int, str, str]:
        code = main([*args, "--home", str(home.root)])
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return code, out.out, out.err

    return go
