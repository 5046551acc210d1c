"""The settings of a bridge on a server: where its password may stand, and what goes together."""

import os
from pathlib import Path

import pytest

from autopoll.errors import ConfigError
from autopoll.home import fingerprint
from autopoll.home.bridge_settings import whole_urls
from autopoll.home.config import Config, load
from autopoll.home.home import Home

MAIN = '[shards.main]\nbackend = "echo"\n[bridge]\n'
SECRET = "hunter2"


def read(folder: Path, bridge: str, mode: int = 0o644, **environ: str) -> Config:
    path = folder / "autopoll.toml"
    path.write_text(MAIN + bridge)
    path.chmod(mode)
    return load(Home(folder), environ)


def refusal(folder: Path, bridge: str, mode: int = 0o600) -> str:
    with pytest.raises(ConfigError) as refused:
        read(folder, bridge, mode)
    assert str(folder / "autopoll.toml") in refused.value.what
    assert SECRET not in str(refused.value)
    return str(refused.value)


def urls(folder: Path, config: Config) -> tuple[str, str | None]:
    url, listen_url = whole_urls(Home(folder), config.bridge)
    return url.full, listen_url.full if listen_url else None


def test_a_server_needs_no_password_in_the_settings(tmp_path: Path) -> None:
    config = read(tmp_path, "url = 'postgresql://?service=x'\nlisten_url = 'postgres://db'\n")
    assert urls(tmp_path, config) == ("postgresql://?service=x", "postgres://db")


@pytest.mark.parametrize("key", ["url", "listen_url"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_password_in_settings_that_others_may_read_is_refused_with_the_mends(
    tmp_path: Path, key: str, mode: int
) -> None:
    text = f"{key} = 'postgresql://me:{SECRET}@db'\n"
    if key != "url":
        text += "url = 'postgresql://db'\n"
    told = refusal(tmp_path, text, mode)
    for word in (f"bridge.{key}", f"mode {mode:04o}", "~/.pgpass", "service file", "password_file"):
        assert word in told
    assert f"chmod 600 '{tmp_path}/autopoll.toml'" in told
    config = read(tmp_path, text, 0o600)
    assert SECRET not in f"{config} {config!r}"
    assert f"postgresql://me:{SECRET}@db" in urls(tmp_path, config)


def test_a_password_in_the_environment_concerns_no_file(tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET}@db"
    config = read(tmp_path, "url = 'postgresql://db'\n", AUTOPOLL_BRIDGE__URL=url)
    assert urls(tmp_path, config) == (url, None)


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("p@ss\n")
    path.chmod(0o600)
    config = read(
        tmp_path,
        "url = 'postgresql://db'\nlisten_url = 'postgresql://db?port=1'\n"
        "password_file = 'password'\n",
    )
    word = "password=%70%40%73%73"
    assert urls(tmp_path, config) == (f"postgresql://db?{word}", f"postgresql://db?port=1&{word}")


def spoilt(path: Path, how: str) -> None:
    if how == "a folder":
        path.mkdir()
    elif how == "a symbolic link":
        path.symlink_to(os.devnull)
    elif how == "a pipe":
        os.mkfifo(path, 0o600)
    elif how != "missing":
        path.write_text({"empty": "\n", "several lines": f"{SECRET}\nx\n"}.get(how, SECRET))
        path.chmod(0o640 if how == "open to others" else 0o600)


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "several lines",
        "open to others",
        "a folder",
        "a symbolic link",
        "a pipe",
    ],
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path, how: str) -> None:
    spoilt(tmp_path / "password", how)
    config = read(tmp_path, "url = 'postgresql://db'\npassword_file = 'password'\n")
    with pytest.raises(ConfigError) as refused:
        urls(tmp_path, config)
    assert f"bridge.password_file: {tmp_path}/password" in refused.value.what
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("url = 5\n", ["bridge.url", "quotes"]),
        (f"url = 'pg://me:{SECRET}@db'\n", ["bridge.url", "pg://…", "postgresql://"]),
        (f"url = 'postgresql://me:{SECRET}@x@db'\n", ["bridge.url", "%40 for @"]),
        ("listen_url = 'postgresql://db'\n", ["bridge.listen_url", "PostgreSQL"]),
        ("password_file = 'x'\n", ["bridge.password_file", "PostgreSQL"]),
        (
            "url = 'postgresql://db'\nlisten_url = 'sqlite:///x'\n",
            ["bridge.listen_url", "names no server"],
        ),
        (
            f"url = 'postgresql://me:{SECRET}@db'\npassword_file = 'x'\n",
            ["bridge.url", "beside password_file"],
        ),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    told = refusal(tmp_path, text)
    assert all(word in told for word in words), told


def test_another_bridge_is_another_ground_for_the_poller(tmp_path: Path) -> None:
    before = read(tmp_path, "url = 'postgresql://me:one@db'\n", 0o600)
    for text in ("url = 'postgresql://me:two@db'\n", "url = 'sqlite:///x'\n"):
        after = read(tmp_path, text, 0o600)
        assert fingerprint.of_ground(before) != fingerprint.of_ground(after)
        assert fingerprint.of_poller(before) != fingerprint.of_poller(after)
    again = read(tmp_path, "url = 'postgresql://me:one@db'\n", 0o600)
    assert fingerprint.of_ground(before) == fingerprint.of_ground(again)
