"""Fixtures for the tests of single parts."""

from pathlib import Path

import pytest
from fake_cli import fake_cli


@pytest.fixture
def cli(tmp_path: Path) -> Path:
    return fake_cli(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (home / "docs" / "notes.md").write_text("# Hues\n\nThe tulip is yellow.\n")
    return home
