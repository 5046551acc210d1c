"""What a worker hands on to the processes that its backend starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prepared_home import ECHO

from autopoll.home.home import Home

# The backend is made, and starts a process that has all that the worker itself has.
WORKER = """
import subprocess, sys
from pathlib import Path
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.worker import worker
worker.Instance = lambda *_: sys.exit(subprocess.run(["env"]).returncode)
home = Home(Path(sys.argv[1]))
worker.run(home, load(home, {}), "main", 1)
"""
LIBPQ = {"PGPASSWORD": "x", "PGUSER": "agents", "PGSERVICE": "here", "PGCONNECT_TIMEOUT": "7"}


@pytest.mark.parametrize("named", [[], ["PGUSER"]])
def test_a_child_of_a_worker_does_not_learn_how_the_bridge_is_reached(
    tmp_path: Path, named: list[str]
) -> None:
    home = Home(tmp_path)
    home.make_private()
    home.config.write_text(
        f'{ECHO}options = {{ env = {named} }}\n[bridge]\nurl = "postgresql://db.example.org/d"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        env={**os.environ, **LIBPQ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    passed_on = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert passed_on & LIBPQ.keys() == {*named}
    assert "PATH" in passed_on
