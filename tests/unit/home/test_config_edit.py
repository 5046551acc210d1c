"""autopoll.toml as people wrote it: a shard goes, and nothing else in it changes."""

import os
import tomllib
from pathlib import Path

import pytest

from autopoll.errors import ConfigError
from autopoll.home import toml_file
from autopoll.home.config_edit import without_shard, write

HOME = """\
# Settings of our agents.

[shards.main]   # the first
backend = "extract"
context = [
  "docs/",   # all of it
  "[shards.history]",
]

# What we decided, and why.
# Ask Ada before changing it.
[shards.history]
backend = 'echo'
# instances = 2
max_requests = 1_000

[shards.history.options]
delay = "1s"
# the end of history

# [delivery]
# max_attempts = 5

[bridge]
url = "sqlite:///var/bridge.db"   # not x

# the code
[shards.code]
backend = "echo"
"""
REST = """\
# Settings of our agents.

[shards.main]   # the first
backend = "extract"
context = [
  "docs/",   # all of it
  "[shards.history]",
]

# [delivery]
# max_attempts = 5

[bridge]
url = "sqlite:///var/bridge.db"   # not x

# the code
[shards.code]
backend = "echo"
"""


def without(text: str, name: str) -> str:
    return without_shard(Path("autopoll.toml"), text, name)


def test_a_shard_goes_with_what_is_in_its_lines_and_nothing_else_changes() -> None:
    assert without(HOME, "history") == REST
    assert without(HOME, "code") == HOME[: HOME.index("\n# the code")]


def test_line_ends_stay_what_they_are() -> None:
    assert without(HOME.replace("\n", "\r\n"), "history") == REST.replace("\n", "\r\n")


def test_a_shard_goes_out_of_a_file_with_the_mark_that_editors_of_windows_put_first(
    tmp_path: Path,
) -> None:
    path = tmp_path / "autopoll.toml"
    path.write_text("\ufeff" + HOME.replace("\n", "\r\n"), newline="")
    made = without_shard(path, toml_file.read_text(path), "history")
    assert made == REST.replace("\n", "\r\n")
    write(path, made)
    assert path.read_bytes() == made.encode()


def test_the_last_shard_of_the_file_goes_though_no_table_of_shards_is_left() -> None:
    assert without('[bridge]\nurl = "x"\n\n[shards.x]\nbackend = "echo"\n', "x") == (
        '[bridge]\nurl = "x"\n'
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# Our agents: read docs/ first.\n[shards.b]\n{}\n", "# Our agents: read docs/ first.\n"),
        (
            "[shards.a]\n{}\n# instances = 2\n[shards.b]\n{}\n",
            "[shards.a]\n{}\n# instances = 2\n",
        ),
        ("[shards.a]\n{}\n\n# see\u2028[shards.b]\n[shards.b]\n{}\n", "[shards.a]\n{}\n"),
        ("[shards.a]\n{}\n\n# its tools\n[[shards.b.options.tools]]\n{}\n", "[shards.a]\n{}\n"),
    ],
)
def test_a_comment_goes_only_where_it_is_about_the_shard(text: str, left: str) -> None:
    whole, rest = (each.replace("{}", 'backend = "echo"') for each in (text, left))
    assert without_shard(Path("autopoll.toml"), whole, "b") == rest


def test_the_last_line_says_how_the_file_ends() -> None:
    text = '[shards.a]\ninstructions = """one\r\ntwo"""\n[shards.b]\nbackend = "echo"\n'
    assert without_shard(Path("autopoll.toml"), text, "b") == text.partition("[shards.b]")[0]


def test_a_comment_that_is_none_stays_in_its_string() -> None:
    rest = '[shards.main]\nbackend = """\n# no comment\n[shards.x]\n"""\n'
    assert without(f'{rest}[shards.x]\nbackend = "echo"\n', "x") == rest


def test_a_shard_that_is_not_in_the_file_changes_nothing() -> None:
    assert without(HOME, "nope") == HOME
    assert without("[bridge]\n", "nope") == "[bridge]\n"


@pytest.mark.parametrize(
    "text",
    [
        '[shards]\nmain = {backend = "echo"}\nx = {backend = "echo"}\n',
        '[shards]\nmain.backend = "echo"\nx.backend = "echo"\nx.instances = 2\n',
        'shards.main.backend = "echo"\nshards.x.backend = "echo"\n',
        'shards = {main = {backend = "echo"}, x = {backend = "echo"}}\n',
        '[shards.x]\nbackend = "e"\n[bridge]\n[shards.x.options]\na = 1\n[shards.main]\na = 1\n',
        '[shards.main]\nbackend = "echo"\n["shards".\'x\']\nbackend = """\n[shards.y]\n"""\n',
    ],
)
def test_a_shard_goes_however_it_is_written(text: str) -> None:
    wanted = tomllib.loads(text)
    del wanted["shards"]["x"]
    assert tomllib.loads(without(text, "x")) == wanted


# --- writing


def test_mode_and_link_stay_and_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "autopoll.toml"
    real.write_text(HOME)
    real.chmod(0o640)
    link.symlink_to("real.toml")
    (tmp_path / ".real.toml.4711").write_text("half")
    (tmp_path / ".real.toml.bak").write_text("mine")
    write(link, REST)
    assert link.is_symlink() and real.read_text() == REST
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == [".real.toml.bak", "autopoll.toml", "real.toml"]


def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "autopoll.toml"
    path.write_text(HOME)
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="read-only"):
        write(path, REST)
    assert path.read_text() == HOME and os.listdir(tmp_path) == ["autopoll.toml"]
