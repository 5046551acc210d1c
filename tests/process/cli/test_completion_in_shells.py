"""Completion as it is typed: each real shell on a terminal, a word begun, and the tab key."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bridge_calls import ask
from commands import AUTOPOLL
from prepared_home import prepared_home
from terminal import OnTerminal

from autopoll.bridge.connect import connect
from autopoll.home.config import load
from autopoll.home.home import Home

PROMPT = "ready> "
# A shell without anybody's settings, and what a user of it has in them for the completion.
ON_TERMINAL = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(autopoll completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit && compinit -u -D && eval "$(autopoll completion zsh)"',
    ),
}
Complete = Callable[[str], str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = prepared_home(tmp_path_factory.mktemp("home"))
    (home.root / "shards.d").mkdir(mode=0o700)
    (home.root / "shards.d" / "history.toml").write_text('backend = "echo"\ninstances = 2\n')
    (home.root / "notes.md").write_text("# Notes\n")
    return home


@pytest.fixture(scope="module")
def conversation(home: Home) -> str:
    """A conversation in which one question was asked."""
    with closing(connect(home, load(home, {}))) as bridge:
        [only] = [each.id for each in bridge.conversations.all() if each.served]
        ask(bridge, only, "Why?")
    return only


@pytest.fixture(scope="module")
def environ(home: Home) -> dict[str, str]:
    folder = home.root / "bin"
    folder.mkdir()
    program = folder / "autopoll"
    program.write_text(f'#!/bin/sh\nexec {" ".join(AUTOPOLL)} "$@"\n')
    program.chmod(0o755)
    own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(folder))
    return {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "LANG": "C.UTF-8", **own}


@pytest.fixture(scope="module", params=(*ON_TERMINAL, "fish"))
def complete(
    request: pytest.FixtureRequest, home: Home, environ: dict[str, str], conversation: str
) -> Iterator[Complete]:
    """What a line becomes by the tab key, in each shell."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed on this machine (Debian: apt install {name})")
    if name == "fish":
        yield lambda typed: by_fish(typed, home.root, environ)
        return
    line, completion = ON_TERMINAL[name]
    # A session of its own, whose terminal it is: as after a login.
    login = ["setsid", "--ctty", "--wait", *line]
    with closing(OnTerminal(login, home.root, environ, (200, 50))) as shell:
        shell.type(f"PS1='{PROMPT}'\n")
        shell.sees(PROMPT)
        shell.type(f"{completion}; echo loaded-$?\n")
        shell.sees("loaded-0")
        yield lambda typed: by_tab(shell, typed)


def by_tab(shell: OnTerminal, typed: str) -> str:
    """Return what the line becomes, and take it back."""
    shell.text = ""
    shell.type(f"{typed}\t")
    shell.until(lambda: shell.text.rpartition(typed)[2].strip("\a"), what="the rest of the line")
    shell.read(0.2)
    line = shell.text
    shell.type("\x03")
    shell.sees(PROMPT)
    return line


def by_fish(typed: str, folder: Path, environ: dict[str, str]) -> str:
    """Return the line with the only word that fish offers: on a terminal it redraws too much."""
    script = 'autopoll completion fish | source; complete --do-complete "$argv[1]"'
    words = ["fish", "--no-config", "--command", script, typed]
    offered = subprocess.check_output(words, cwd=folder, env=environ, text=True).splitlines()
    [only] = {line.partition("\t")[0] for line in offered}
    return f"{typed.rpartition(' ')[0]} {only} "


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("autopoll shards rem", "autopoll shards remove"),
        ("autopoll messages --foll", "autopoll messages --follow"),
        ("autopoll ask --shard hi", "autopoll ask --shard history"),
        ("autopoll ask --shard main,hi", "autopoll ask --shard main,history"),
        ("autopoll shards test hi", "autopoll shards test history"),
        ("autopoll restart watc", "autopoll restart watchdog"),
        ("autopoll logs worker-history-2", "autopoll logs worker-history-2 "),
        ("autopoll answer ", "autopoll answer 1"),
        ("autopoll shards add x --context no", "autopoll shards add x --context notes.md"),
    ],
)
def test_a_word_is_completed(complete: Complete, typed: str, whole: str) -> None:
    assert whole in complete(typed)


def test_a_conversation_is_completed(complete: Complete, conversation: str) -> None:
    typed = f"autopoll conversations show {conversation}"
    assert typed in complete(typed[:-4])
