"""Evidence is collected with what there is: a kill that is due must not wait for it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autopoll.home import Home
from autopoll.process import evidence
from autopoll.process.heartbeat import Beat
from autopoll.process.vitals import boot_id, vitals


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    for folder in (home.log, home.evidence):
        folder.mkdir(parents=True)
    return home


def beat() -> Beat:
    me = vitals(os.getpid())
    assert me
    return Beat(name="me", role="worker", pid=me.pid, started=me.started, boot_id=boot_id())


def collect(home: Home) -> str:
    return asyncio.run(evidence.collect(home, beat(), "hung-idle"))


def test_evidence_tells_what_is_known_of_the_process(home: Home) -> None:
    assert "fds; details in var/" in collect(home)


def test_evidence_is_collected_after_the_environment_was_taken_away(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)  # importing it fails
    words = collect(home)
    assert "starting, loop beat" in words
    assert "details in" in words


def test_only_the_newest_hundred_are_kept(home: Home) -> None:
    for number in range(105):
        (home.evidence / f"{number:03}-me").mkdir()
        (home.evidence / f"{number:03}-me" / "facts.json").write_text("{}")
    collect(home)
    kept = sorted(entry.name for entry in home.evidence.iterdir())
    assert len(kept) == 100
    assert kept[0] == "006-me"


def test_a_watchdog_with_nothing_to_kill_has_not_loaded_what_only_a_kill_needs() -> None:
    code = "import autopoll.cli.roles, autopoll.watchdog, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    costly = {"psutil", "shutil", "hashlib", "secrets", "apsw", "rich", "supervisor"}
    assert not costly & set(done.stdout.split())
