"""The man page is what the commands say, and man can show it."""

import configparser
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from autopoll.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "autopoll.1"


def test_the_man_page_is_what_the_commands_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["man"]()
    assert made == PAGE.read_text(), "run: make docs"


def test_every_command_and_exit_code_is_in_the_man_page() -> None:
    text = PAGE.read_text()
    for names in COMMANDS.values():
        for name in names:
            assert f'.SS "autopoll {name}"\n' in text
    for code in ("0", "5", "78", "130", "141"):
        assert f'.TP\n.B "{code}"\n' in text
    assert text.isascii() and "\x08" not in text


def test_the_man_page_is_packaged() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["options.data_files"]["share/man/man1"].split() == ["docs/autopoll.1"]


@pytest.mark.parametrize(
    "command", [["groff", "-ww", "-man", "-Tutf8"], ["mandoc", "-T", "lint", "-W", "error"]]
)
def test_formatters_have_nothing_to_say_against_it(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        return  # not every machine has them, and one has at least the other
    done = subprocess.run([*command, PAGE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
