"""Evidence is collected with what there is: a kill that is due must not wait for it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autopoll.home.home import Home
from autopoll.process.heartbeat import Beat
from autopoll.process.proc_stat import boot_id, read_stat
from autopoll.watchdog import evidence


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    for folder in (home.log, home.evidence):
        folder.mkdir(parents=True)
    return home


def beat() -> Beat:
    me = read_stat(os.getpid())
    assert me
    return Beat(name="me", role="worker", pid=me.pid, started=me.started, boot_id=boot_id())


def collect(home: Home) -> str:
    return asyncio.run(evidence.collect(home, beat(), "hung-idle"))


def test_evidence_tells_what_is_known_of_the_process(home: Home) -> None:
    assert "fds; details in var/" in collect(home)


@pytest.mark.parametrize("error", [ModuleNotFoundError, OSError])
def test_evidence_is_collected_after_the_environment_was_taken_away(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "psutil":
                raise error(name)

    monkeypatch.delitem(sys.modules, "psutil", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
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


def test_the_newest_is_kept_though_the_clock_was_set_back_before_it(home: Home) -> None:
    for number in range(105):
        (home.evidence / f"2999{number:04}T000000.000-me").mkdir()
    words = collect(home)
    kept = [entry.name for entry in home.evidence.iterdir()]
    assert len(kept) == 100
    assert [name for name in kept if name in words and (home.evidence / name).is_dir()]


def test_what_a_link_among_the_evidence_leads_to_is_left_alone(home: Home, tmp_path: Path) -> None:
    (archive := tmp_path / "archive").mkdir()
    (archive / "kept").touch()
    (home.evidence / "000-me").symlink_to(archive)
    for number in range(1, 105):
        (home.evidence / f"{number:03}-me").mkdir()
    collect(home)
    assert (archive / "kept").exists()


def test_a_watchdog_with_nothing_to_kill_has_not_loaded_what_only_a_kill_needs() -> None:
    code = "import autopoll.cli.roles, autopoll.watchdog.watchdog, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    costly = {"psutil", "shutil", "hashlib", "secrets", "apsw", "rich", "supervisor"}
    assert not costly & set(done.stdout.split())
