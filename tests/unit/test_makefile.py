"""The Makefile: its help, and the one rule in it that decides something."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *args],
        cwd=folder,
        env={**environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
    )


def targets() -> set[str]:
    [line] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return set(line.split())


@pytest.fixture
def empty_checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_help_is_the_default_and_names_every_target_with_a_line_of_text() -> None:
    shown = make(ROOT).stdout
    lines = dict(re.findall(r"^  make (\S+) +(\S.*)$", shown, re.M))
    assert set(lines) == targets()
    assert shown == make(ROOT, "help").stdout


def test_every_make_command_in_the_documents_exists() -> None:
    used = {
        name: document.name
        for document in DOCUMENTS
        for name in re.findall(r"(?:^|`)make ([a-z]+(?:-[a-z]+)*)", document.read_text(), re.M)
    }
    assert used
    assert not {name: where for name, where in used.items() if name not in targets()}


@pytest.mark.parametrize("python", ["", "/bin/false"])
def test_setup_without_a_fitting_python_says_which_one_is_needed(empty_checkout, python) -> None:
    refused = make(empty_checkout, "setup", f"PYTHON={python}")
    assert refused.returncode == 2
    assert "Python 3.11 or newer" in refused.stderr
    assert "make setup PYTHON=/path/to/python3" in refused.stderr
    assert not (empty_checkout / ".venv").exists()


@pytest.mark.long
def test_setup_is_done_again_only_when_the_packaging_changed(empty_checkout) -> None:
    stamp = empty_checkout / ".venv" / "installed"
    assert make(empty_checkout, "-q", "setup").returncode == 1
    stamp.parent.mkdir()
    stamp.touch()
    assert make(empty_checkout, "-q", "setup").returncode == 0
    for name in ("setup.cfg", "pyproject.toml"):
        later = stamp.stat().st_mtime + 10
        os.utime(empty_checkout / name, (later, later))
        assert make(empty_checkout, "-q", "setup").returncode == 1
        os.utime(empty_checkout / name, (0, 0))


def test_ci_calls_the_test_command_of_the_readme_and_the_checks() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = script.read_text().splitlines()
    assert "make test || alone" in commands  # and not less often than once more, alone
    assert "make test-long || alone" in commands
    assert "make check" in commands
    assert re.search(r"^make test\b", (ROOT / "README.md").read_text(), re.M)
