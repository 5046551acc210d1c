"""The contract of the bridge holds on old and new versions of PostgreSQL."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_server import GIVEN, PostgresServer, distribution_binaries, wheel_binaries

ROOT = Path(__file__).parents[3]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("binaries", [distribution_binaries, wheel_binaries])
def test_the_contract_holds_on_the_version_of(binaries: Callable[[], Path | None]) -> None:
    found = binaries()
    assert found, "make setup, or apt-get install postgresql"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with PostgresServer(found) as server:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/contract", "-k", "postgres"],
            cwd=ROOT,
            env={**environ, GIVEN: server.url()},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-500:]
