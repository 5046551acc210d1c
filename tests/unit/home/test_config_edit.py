"""autopoll.toml as people wrote it: a shard comes and goes, and nothing else in it changes."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopoll.errors import ConfigError
from autopoll.home.config_edit import with_shard, without_shard, write

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


def test_a_shard_goes_with_its_comments_and_nothing_else_changes() -> None:
    assert without_shard(HOME, "history") == REST


def test_the_last_shard_goes_with_the_comment_above_it() -> None:
    assert without_shard(HOME, "code") == HOME[: HOME.index("\n# the code")]


def test_a_shard_comes_at_the_end_and_every_other_byte_stays() -> None:
    section = {"backend": "echo", "context": ["a b", "ü"], "options": {"delay": "1s"}}
    made = with_shard(HOME, "new", section)
    assert made.startswith(HOME)
    assert tomllib.loads(made)["shards"]["new"] == section
    assert without_shard(made, "new") == HOME


def test_line_ends_stay_what_they_are() -> None:
    text = HOME.replace("\n", "\r\n")
    made = with_shard(text, "new", {"backend": "echo"})
    assert made.startswith(text) and "\n" not in made.replace("\r\n", "")
    assert without_shard(made, "new") == text
    assert without_shard(text, "history") == REST.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        '[shards]\nmain = {backend = "echo"}\nx = {backend = "echo"}\n',
        '[shards]\nmain.backend = "echo"\nx.backend = "echo"\nx.instances = 2\n',
        'shards.main.backend = "echo"\nshards.x.backend = "echo"\n',
        'shards = {main = {backend = "echo"}, x = {backend = "echo"}}\n',
        '[shards.main]\nbackend = "echo"\n["shards".\'x\']\nbackend = """\n[shards.y]\n"""\n',
    ],
)
def test_a_shard_goes_however_it_is_written(text: str) -> None:
    wanted = tomllib.loads(text)
    del wanted["shards"]["x"]
    assert tomllib.loads(without_shard(text, "x")) == wanted


def test_where_a_section_cannot_stand_the_text_to_add_is_told() -> None:
    with pytest.raises(ConfigError, match="does not go with") as told:
        with_shard('shards = {main = {backend = "echo"}}\n', "x", {"backend": "echo"})
    assert '[shards.x]\nbackend = "echo"' in told.value.mend


@given(
    st.dictionaries(
        st.text("abcdefg_-", min_size=1),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
        ),
    ),
    st.sampled_from([HOME, REST, HOME.rstrip()]),
)
@settings(deadline=None)
def test_whatever_is_added_is_read_as_it_was_given_and_goes_again(options, text) -> None:
    section = {"backend": "x", "options": options}
    made = with_shard(text, "new", section)
    assert tomllib.loads(made)["shards"]["new"] == section
    assert without_shard(made, "new").strip() == text.strip()


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
