"""A shard that answers from the whole home never shows the home's own files."""

from pathlib import Path

import pytest

from autopoll.backends.context.context_files import Context
from autopoll.backends.contract import Permanent, Setting
from autopoll.errors import ConfigError

MAIN = "[shards.main]\nbackend = 'echo'\n"
OWN = [
    "var/credentials",
    "autopoll.toml",
    "conf/supervisord.conf",
    "conf/shards.d/x.conf",
    "shards.d/x.toml",
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in [*OWN, "README.md", "conf/theirs.md"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "autopoll.toml").write_text(MAIN)
    (tmp_path / "shards.d" / "x.toml").write_text('backend = "echo"\n')
    return tmp_path


def context(home: Path, *roots: Path) -> Context:
    return Context(Setting(shard="main", root=home, context=list(roots)))


def test_what_lies_under_the_home_is_found_without_the_homes_own_files(home: Path) -> None:
    found = [str(path.relative_to(home)) for path in context(home, home).listing().files]
    assert found == ["README.md", "conf/theirs.md"]


@pytest.mark.parametrize("name", OWN)
def test_an_own_file_cannot_be_asked_for_by_name(home: Path, name: str) -> None:
    with pytest.raises(Permanent, match="not among"):
        context(home, home).read(name)


def test_a_key_file_of_any_shard_is_no_context_from_the_moment_it_is_named(home: Path) -> None:
    (home / "k.key").write_text("the key")
    seen = context(home, home)
    assert home / "k.key" in seen.listing().files
    (home / "autopoll.toml").write_text(
        "[shards.main]\nbackend = 'echo'\n[shards.other]\nbackend = 'anthropic'\n"
        "options = {key_file = 'k.key'}\n"
    )
    assert home / "k.key" not in seen.listing().files
    with pytest.raises(Permanent, match="not among"):
        seen.read("k.key")
    (home / "autopoll.toml").write_text(
        MAIN + "[bridge]\nurl = 'postgresql://db'\npassword_file = 'k.key'\n"
    )
    assert home / "k.key" not in seen.listing().files
    (home / "autopoll.toml").write_text("[shards")  # somebody is writing it
    assert home / "k.key" not in seen.listing().files
    (home / "autopoll.toml").write_text(MAIN)
    assert home / "k.key" in seen.listing().files
    (home / "shards.d" / "x.toml").write_text(
        "backend = 'openai'\noptions = {key_file = 'k.key'}\n"
    )
    assert home / "k.key" not in seen.listing().files
    with pytest.raises(ConfigError, match="home's own"):
        (home / "autopoll.toml").write_text(
            "[shards.main]\nbackend = 'echo'\noptions = {key_file = './k.key'}\n"
        )
        context(home, home / "k.key")


def test_a_private_folder_that_is_a_symlink_is_still_private(home: Path) -> None:
    (home / "var").rename(home / "elsewhere")
    (home / "var").symlink_to(home / "elsewhere")
    with pytest.raises(Permanent, match="not among"):
        context(home, home).read("elsewhere/credentials")


def test_the_private_folder_cannot_be_configured_as_context(home: Path) -> None:
    with pytest.raises(ConfigError, match="home's own"):
        context(home, home / "var" / "log")
