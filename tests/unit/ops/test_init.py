"""Founding a home, and making it ready again and again."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autopoll.bridge.connect import connect
from autopoll.errors import ConfigError
from autopoll.home import credentials
from autopoll.home.config import Config, load
from autopoll.home.home import SOCKET_LIMIT, Home, socket_path
from autopoll.ops.init import found, prepare


@pytest.fixture(autouse=True)
def short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets of homes with long paths go, and not into the tester's own folder."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield Path(folder)


def config(home: Home) -> Config:
    return load(home, {})


def test_a_new_home_has_settings_that_are_valid_and_a_process_tree(tmp_path: Path) -> None:
    home, is_new = found(tmp_path / "a" / "b")
    assert is_new
    assert config(home).shards["main"].backend == "extract"
    assert "unix://" in home.supervisord_conf.read_text()
    assert stat.S_IMODE(home.var.stat().st_mode) == 0o700


def test_founding_a_home_again_keeps_what_people_wrote(tmp_path: Path) -> None:
    home, _ = found(tmp_path)
    home.config.write_text("# mine\n")
    home.supervisord_conf.write_text("[unix_http_server]\nfile = /tmp/mine.sock\n")
    again, is_new = found(tmp_path)
    assert (again, is_new) == (home, False)
    assert home.config.read_text() == "# mine\n"
    assert socket_path(home) == Path("/tmp/mine.sock")


def test_preparing_twice_makes_one_conversation_for_each_shard(tmp_path: Path) -> None:
    home, _ = found(tmp_path)
    home.config.write_text('[shards.main]\nbackend="echo"\n[shards.other]\nbackend="echo"\n')
    made = prepare(home, config(home))
    assert set(made) == {"main", "other"}
    before = home.credentials.read_bytes()
    assert prepare(home, config(home)) == {}
    assert home.credentials.read_bytes() == before
    with closing(connect(home, config(home), read_only=True)) as bridge:
        assert len(bridge.conversations.all()) == 2
        assert bridge.conversations.routes() == {
            (made[shard].conversation, "b"): shard for shard in ("main", "other")
        }


def test_a_database_that_was_replaced_gets_a_conversation_of_its_own(tmp_path: Path) -> None:
    home, _ = found(tmp_path)
    old = prepare(home, config(home))["main"]
    for path in home.var.glob("bridge.db*"):
        path.unlink()
    new = prepare(home, config(home))["main"]
    assert new.conversation != old.conversation
    assert credentials.read(home).shards["main"] == new.conversation


def test_an_expired_token_is_replaced_but_a_revoked_one_is_not(tmp_path: Path) -> None:
    home, _ = found(tmp_path)
    home.config.write_text('[access]\ntoken_lifetime = "1ms"\n[shards.main]\nbackend = "echo"\n')
    made = prepare(home, config(home))["main"]
    with closing(connect(home, config(home))) as bridge:
        bridge.conversations.revoke_token(made.conversation, "b")
    prepare(home, config(home))
    kept = credentials.read(home)
    assert kept.token(made.conversation, "a") != made.a
    assert kept.token(made.conversation, "b") == made.b


@pytest.mark.parametrize(
    "name", ["50%", "a*", "a?b", "a[0]", 'a"b', "a\nb", "a\tb", "a\x07", "\udcff"]
)
def test_a_path_that_supervisord_cannot_take_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be a home"):
        found(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["with space", "a ;b", "a #b", "ü 漢", "it's", "-x", "~x"])
def test_an_odd_path_that_supervisord_can_take_is_a_home(tmp_path: Path, name: str) -> None:
    home, _ = found(tmp_path / name)
    assert set(prepare(home, config(home))) == {"main"}
    assert socket_path(home).name.endswith(".sock")


def test_a_long_path_gets_a_short_socket_in_a_private_folder(
    tmp_path: Path, short_folder: Path
) -> None:
    home, _ = found(tmp_path / ("long" * 30))
    path = socket_path(home)
    assert len(os.fsencode(path)) <= SOCKET_LIMIT
    assert path.parent == short_folder / "autopoll" / "sock"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    other, _ = found(tmp_path / ("long" * 31))
    assert socket_path(other) != path
    assert f"unix://{path}" in home.supervisord_conf.read_text()


def test_when_the_short_socket_is_too_long_as_well_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("s" * 90)))
    with pytest.raises(ConfigError, match="too long") as caught:
        found(tmp_path / ("long" * 30))
    assert "XDG_STATE_HOME" in caught.value.mend


def test_a_home_that_was_moved_to_a_long_path_is_told_so(
    tmp_path: Path, short_folder: Path
) -> None:
    home, _ = found(short_folder / "h")
    assert socket_path(home) == home.run / "supervisor.sock"
    moved = Home(home.root.rename(tmp_path / ("long" * 30)))
    with pytest.raises(ConfigError, match=r"socket path too long: .* at most 95") as caught:
        socket_path(moved)
    assert "autopoll init" in caught.value.mend


@pytest.mark.parametrize("text", ["", "[unix_http_server]\n", "file = x\n", "[unix_http_server"])
def test_a_process_tree_without_a_socket_is_refused(tmp_path: Path, text: str) -> None:
    home, _ = found(tmp_path)
    home.supervisord_conf.write_text(text)
    with pytest.raises(ConfigError, match="names no socket"):
        socket_path(home)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        found(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be made"):
        found(tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="cannot be made"):
        found(Path("/proc/nothing"))
