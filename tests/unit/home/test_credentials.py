"""The tokens of a home: private, whole, and written by one at a time."""

import os
import threading
from pathlib import Path

import pytest

from autopoll.errors import ConfigError, NotFound
from autopoll.home import credentials
from autopoll.home.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make_private()
    return home


def keep(home: Home, shard: str = "main") -> None:
    with credentials.edit(home) as kept:
        kept.shards[shard] = f"conv_{shard}"
        kept.tokens[f"conv_{shard}"] = {"a": "secret-a", "b": "secret-b"}


def test_what_was_kept_is_read_back_from_a_file_of_mode_0600(home: Home) -> None:
    keep(home)
    assert credentials.read(home).token("conv_main", "b") == "secret-b"
    assert home.credentials.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.var.iterdir() if path.is_file()] == ["credentials"]


def test_without_a_file_there_are_no_credentials(home: Home) -> None:
    assert credentials.read(home).shards == {}
    with pytest.raises(NotFound, match="keeps no token for session a of conv_x"):
        credentials.read(home).token("conv_x", "a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_file_that_others_can_open_is_refused_with_the_mend(home: Home, mode: int) -> None:
    keep(home)
    home.credentials.chmod(mode)
    with pytest.raises(ConfigError, match=f"open to others.*{mode:04o}") as caught:
        credentials.read(home)
    assert "chmod 600" in caught.value.mend


def test_a_symlink_is_refused(home: Home, tmp_path: Path) -> None:
    keep(home)
    home.credentials.rename(tmp_path / "elsewhere")
    home.credentials.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        credentials.read(home)


def test_a_fifo_in_its_place_is_refused_without_waiting_for_a_writer(home: Home) -> None:
    os.mkfifo(home.credentials, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        credentials.read(home)


def test_a_file_of_another_user_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(home)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="belongs to user"):
        credentials.read(home)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"shards": 1}', b'{"tokens": {"c": {"a": 1}}}', b"null"],
)
def test_a_garbled_file_is_refused_and_left_alone(home: Home, content: bytes) -> None:
    home.credentials.write_bytes(content)
    home.credentials.chmod(0o600)
    with pytest.raises(ConfigError, match="garbled"):
        keep(home)
    assert home.credentials.read_bytes() == content


def test_a_file_of_a_later_version_is_refused(home: Home) -> None:
    home.credentials.write_bytes(b'{"version": 2}')
    home.credentials.chmod(0o600)
    with pytest.raises(ConfigError, match="version 2"):
        credentials.read(home)


def test_a_writer_that_fails_changes_nothing(home: Home) -> None:
    keep(home)
    before = home.credentials.read_bytes()
    with pytest.raises(RuntimeError), credentials.edit(home) as kept:
        kept.shards.clear()
        raise RuntimeError
    assert home.credentials.read_bytes() == before


def test_of_many_writers_at_once_none_loses_what_another_kept(home: Home) -> None:
    writers = [threading.Thread(target=keep, args=(home, f"s{number}")) for number in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(credentials.read(home).shards) == 16


def test_no_token_is_in_an_error(home: Home) -> None:
    home.credentials.write_bytes(b'{"tokens": {"conv": {"a": "secret-a", "b": 5}}}')
    home.credentials.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        credentials.read(home)
    assert "secret" not in str(caught.value)


def test_kept_credentials_are_read_again_only_after_a_change(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = credentials.CredentialsCache(home)
    assert kept.read().shards == {}
    keep(home)
    assert kept.read().token("conv_main", "a") == "secret-a"
    with monkeypatch.context() as unread:
        unread.setattr(credentials, "read", lambda home: pytest.fail("it was read again"))
        assert kept.read().shards == {"main": "conv_main"}
    keep(home, "second")
    assert set(kept.read().shards) == {"main", "second"}
    home.credentials.chmod(0o640)
    with pytest.raises(ConfigError, match="open to others"):
        kept.read()
    home.credentials.chmod(0o600)
    assert set(kept.read().shards) == {"main", "second"}
    home.credentials.unlink()
    assert kept.read().shards == {}
