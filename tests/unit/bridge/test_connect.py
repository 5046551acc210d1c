"""A home's bridge that is opened when something of it is wanted, and not before."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autopoll.bridge.connect import connect_when_needed, open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits
from autopoll.cli import main
from autopoll.errors import BridgeError, ConfigError
from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.home.installation import extra_command
from autopoll.ops.init import prepare


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.config.write_text('[shards.main]\nbackend = "echo"\n')
    prepare(home, load(home, {}))
    return home


def test_a_bridge_that_is_not_there_is_missed_at_once(home: Home) -> None:
    (home.var / "bridge.db").unlink()
    with pytest.raises(BridgeError, match="there is no bridge at"):
        connect_when_needed(home, load(home, {}))


def test_nothing_is_opened_before_it_is_wanted_and_all_is_closed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(
        "autopoll.bridge.connect.open_bridge",
        lambda *args, original=open_bridge, **kwargs: opened.append(1) or original(*args, **kwargs),
    )
    connect_when_needed(home, load(home, {})).close()
    assert opened == []
    bridge = connect_when_needed(home, load(home, {}))
    assert bridge.messages.find() == bridge.messages.find() == []
    assert opened == [1]
    bridge.close()
    bridge.close()
    with pytest.raises(BridgeError):
        bridge.messages.find()


def test_another_file_in_its_place_is_refused(home: Home) -> None:
    config = load(home, {})
    bridge = connect_when_needed(home, config)
    fresh = home.var / "fresh.db"
    fresh.write_bytes((home.var / "bridge.db").read_bytes())
    fresh.rename(home.var / "bridge.db")
    with pytest.raises(BridgeError, match="was replaced while it was in use"):
        bridge.require_in_place()
    bridge.close()


def test_another_file_that_was_given_the_number_of_the_first_is_refused(home: Home) -> None:
    config = load(home, {})
    path = home.var / "bridge.db"
    content, number = path.read_bytes(), path.stat().st_ino
    for _ in range(100):
        bridge = connect_when_needed(home, config)
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(BridgeError, match="was replaced while it was in use"):
            bridge.require_in_place()
        bridge.close()
        if path.stat().st_ino == number:
            break


def test_a_file_that_vanishes_once_it_is_open_was_replaced(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = connect_when_needed(home, load(home, {}))

    def opened_and_removed(*args: Any, **kwargs: Any) -> Bridge:
        found = open_bridge(*args, **kwargs)
        (home.var / "bridge.db").unlink()
        return found

    monkeypatch.setattr("autopoll.bridge.connect.open_bridge", opened_and_removed)
    with pytest.raises(BridgeError, match="was replaced while it was in use"):
        bridge.require_in_place()
    bridge.close()


@pytest.fixture
def on_server(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.config.write_text(
        "[shards.main]\nbackend = 'echo'\n[bridge]\nurl = 'postgresql://db'\n"
        "listen_url = 'postgresql://direct'\n"
    )
    return home


def test_a_bridge_on_a_server_is_opened_by_its_engine_with_both_urls(
    on_server: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Any, ...]] = []

    class PostgresBridge:
        def __init__(self, url: str, _limits: BridgeLimits, **given: Any) -> None:
            opened.append((url, given))
            self.messages = "the messages"

        def close(self) -> None:
            opened.append(("closed",))

    engine = ModuleType("autopoll.bridge.postgres")
    monkeypatch.setattr(engine, "PostgresBridge", PostgresBridge, raising=False)
    monkeypatch.setitem(sys.modules, "autopoll.bridge.postgres", engine)
    bridge = connect_when_needed(on_server, load(on_server, {}), read_only=True)
    assert opened == []
    assert bridge.messages == "the messages"  # type: ignore[comparison-overlap]
    bridge.close()
    bridge.close()
    how = {"create": False, "read_only": True, "listen_url": "postgresql://direct"}
    assert opened == [("postgresql://db", how), ("closed",), ("closed",)]


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'psycopg'", name="psycopg"),
        ImportError(
            "no pq wrapper available"
        ),  # psycopg, without its binary part and without libpq
    ],
)
def test_a_server_without_its_driver_is_refused_by_the_extra_that_brings_it(
    on_server: Home,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: ImportError,
) -> None:
    class Missing(ModuleType):
        def __getattr__(self, name: str) -> None:
            if not name.startswith("__"):
                raise error

    monkeypatch.setitem(sys.modules, "autopoll.bridge.postgres", Missing("x"))
    on_server.make_private()
    assert main(["dead", "list", "--home", str(on_server.root)]) == 4
    out = capsys.readouterr()
    assert (out.out, out.err) == (
        "",
        "autopoll: a bridge on PostgreSQL needs a package that is missing: psycopg\n"
        f"  Run: {extra_command('postgres')}\n",
    )


@pytest.mark.parametrize("word", ["foo", "pasword"])
def test_a_parameter_that_libpq_does_not_know_is_named_without_its_value(
    tmp_path: Path, word: str
) -> None:
    url = f"postgresql://db?{word}=hunter2"
    with pytest.raises(ConfigError, match=f'query parameter: "{word}"') as refused:
        open_bridge(BridgeUrl(url), tmp_path, BridgeLimits())
    assert "hunter2" not in str(refused.value)
