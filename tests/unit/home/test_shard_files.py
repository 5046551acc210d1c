"""Shards in files of their own: what is one is read, and what cannot be one is named."""

import errno
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopoll.errors import ConfigError
from autopoll.home import files, fingerprint, shard_files
from autopoll.home.config import Config, load, parse
from autopoll.home.home import Home

MAIN = '[shards.main]\nbackend = "echo"\n'
ECHO = 'backend = "echo"\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "autopoll.toml").write_text(MAIN)
    (tmp_path / "shards.d").mkdir(mode=0o700)
    return Home(tmp_path)


def read(home: Home, **environ: str) -> Config:
    return load(home, environ)


def test_a_file_holds_what_the_table_of_a_shard_would_hold(home: Home) -> None:
    body = 'backend = "echo"\ninstances = 2\n[options]\ndelay = "1s"\n'
    (home.shard_files / "notes.toml").write_text("\ufeff" + body.replace("\n", "\r\n"))
    config = read(home)
    assert list(config.shards) == ["main", "notes"]
    home.config.write_text(
        MAIN + "[shards.notes]\n" + body.replace("[options]", "[shards.notes.options]")
    )
    (home.shard_files / "notes.toml").unlink()
    same = read(home)
    assert same == config
    assert fingerprint.of_worker(same, "notes") == fingerprint.of_worker(config, "notes")
    assert fingerprint.of_poller(same) == fingerprint.of_poller(config)


def test_every_shard_may_be_a_file_main_too(home: Home) -> None:
    home.config.write_text("[delivery]\nmax_attempts = 2\n")
    (home.shard_files / "main.toml").write_text(ECHO)
    assert read(home).delivery.max_attempts == 2
    home.config.write_text("")
    assert list(read(home).shards) == ["main"]


def test_the_environment_overrides_a_file_too_and_is_named_with_it(home: Home) -> None:
    path = home.shard_files / "notes.toml"
    path.write_text(ECHO)
    assert read(home, AUTOPOLL_SHARDS__NOTES__INSTANCES="3").shards["notes"].instances == 3
    with pytest.raises(ConfigError) as refused:
        read(home, AUTOPOLL_SHARDS__NOTES__INSTANCES="0")
    assert f"{path} with AUTOPOLL_SHARDS__NOTES__INSTANCES: shards.notes" in refused.value.what


def test_overrides_do_not_reach_the_tables_of_whoever_asks_what_they_would_be(home: Home) -> None:
    tables = {"notes": {"backend": "echo", "options": {"a": 1}}}
    text = "[shards.main]\nbackend = 'echo'\n"
    environ = {"AUTOPOLL_SHARDS__NOTES__OPTIONS__A": "2"}
    assert parse(home, text, tables, environ).shards["notes"].options == {"a": 2}
    assert tables == {"notes": {"backend": "echo", "options": {"a": 1}}}


@pytest.mark.parametrize(
    "name", [".notes.toml.swp", ".notes.toml.4711", "notes.toml~", "#notes.toml#"]
)
def test_what_editors_and_killed_writers_leave_is_passed_over(home: Home, name: str) -> None:
    (home.shard_files / name).write_text("half")
    assert list(read(home).shards) == ["main"]


def put(name: str, content: str | bytes = ECHO) -> Callable[[Home], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda home: (home.shard_files / name).write_bytes(data) and None


def fifo(home: Home) -> None:
    os.mkfifo(home.shard_files / "x.toml")


def link(target: str) -> Callable[[Home], None]:
    return lambda home: (home.shard_files / "x.toml").symlink_to(target)


def in_both_places(home: Home) -> None:
    home.config.write_text(MAIN + '[shards.x]\nbackend = "echo"\n')
    put("x.toml")(home)


UGLY: dict[str, tuple[Callable[[Home], object], str]] = {
    "nothing in it": (put("x.toml", ""), "lacks the key `backend`"),
    "not TOML": (put("x.toml", "backend ="), "is not valid TOML"),
    "not UTF-8": (put("x.toml", b'backend = "\xff"'), "encoding UTF-8"),
    "UTF-16": (put("x.toml", ECHO.encode("utf-16")), "encoding UTF-8"),
    "a NUL": (put("x.toml", "backend = \0"), "is not valid TOML"),
    "brackets without end": (put("x.toml", "a = " + "[" * 50_000), "is not valid TOML"),
    "too large": (put("x.toml", "#" * 1_100_000), "is larger than"),
    "the head of the table": (put("x.toml", '[shards.x]\nbackend = "echo"\n'), "[shards.x]"),
    "another table": (put("x.toml", ECHO + "[delivery]\n"), "Allowed: backend"),
    "an unknown key": (put("x.toml", ECHO + "instanses = 2\n"), "instanses"),
    "a wrong type": (put("x.toml", "backend = 7\n"), "shards.x.backend"),
    "an impossible value": (put("x.toml", ECHO + "instances = 0\n"), "Allowed: 1 to 64"),
    "a folder": (lambda home: (home.shard_files / "x.toml").mkdir(), "not a regular file"),
    "a pipe": (fifo, "not a regular file"),
    "a link to elsewhere": (link("../autopoll.toml"), "is a symbolic link"),
    "a link to nothing": (link("nowhere"), "is a symbolic link"),
    "a link to itself": (link("x.toml"), "is a symbolic link"),
    "a foreign suffix": (put("x.tml"), "Name it NAME.toml"),
    "two suffixes": (put("x.toml.bak"), "Name it NAME.toml"),
    "no suffix": (put("x"), "Name it NAME.toml"),
    "a folder of files": (lambda home: (home.shard_files / "more").mkdir(), "Name it NAME.toml"),
    "capitals": (put("Notes.toml"), "Name it NAME.toml"),
    "a blank": (put("my notes.toml"), "Name it NAME.toml"),
    "another alphabet": (put("история.toml"), "Name it NAME.toml"),
    "a long name": (put("x" * 33 + ".toml"), "Name it NAME.toml"),
    "a hyphen first": (put("-x.toml"), "Name it NAME.toml"),
    "a line end": (put("x\n.toml"), "Name it NAME.toml"),
    "the suffix in capitals": (put("x.TOML"), "Name it NAME.toml"),
    "a name that is not UTF-8": (put(os.fsdecode(b"\xff.toml")), "Name it NAME.toml"),
    "the same shard in both places": (in_both_places, "one of the two"),
}


@pytest.mark.parametrize("what", UGLY)
def test_what_cannot_be_a_shard_is_refused_by_its_file_with_the_mend(home: Home, what: str) -> None:
    make, words = UGLY[what]
    make(home)
    with pytest.raises(ConfigError) as refused:
        read(home)
    told = str(refused.value)
    [name] = os.listdir(home.shard_files)
    assert repr(str(home.shard_files / name))[1:-1] in told
    assert words in told
    told.encode()  # it can be shown
    shard_files.settings_stamp(home)


def test_a_shard_in_both_places_is_refused_naming_both(home: Home) -> None:
    in_both_places(home)
    with pytest.raises(ConfigError) as refused:
        read(home)
    assert str(home.config) in refused.value.what
    assert str(home.shard_files / "x.toml") in refused.value.what


def test_a_folder_that_is_none_is_named(home: Home) -> None:
    home.shard_files.rmdir()
    assert list(read(home).shards) == ["main"]
    home.shard_files.write_text("")
    with pytest.raises(ConfigError, match=f"{home.shard_files} cannot be read: Not a directory"):
        read(home)
    with pytest.raises(ConfigError, match="cannot be written"):
        shard_files.write(home, "new", ECHO)


# --- writing


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_what_is_written_is_private_and_goes_without_a_trace(home: Home, umask: int) -> None:
    home.shard_files.rmdir()
    before = os.umask(umask)
    try:
        shard_files.write(home, "new", ECHO)
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode)
        for path in (home.shard_files, home.shard_files / "new.toml")
    ]
    assert modes == [0o700, 0o600]
    assert list(read(home).shards) == ["main", "new"]
    shard_files.remove(home, "new")
    shard_files.remove(home, "new")
    assert not home.shard_files.exists()


def test_a_file_that_may_not_outlive_a_power_cut_is_not_left_there(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        if folder == home.shard_files:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sync_folder", refuse)
    with pytest.raises(ConfigError, match="Input/output error"):
        shard_files.write(home, "new", ECHO)
    assert list(read(home).shards) == ["main"]


def test_what_a_killed_writer_left_goes_and_what_people_left_stays(home: Home) -> None:
    for name in (".new.toml.4711", ".new.toml.swp", ".other.toml.4711"):
        (home.shard_files / name).write_text("half")
    shard_files.write(home, "new", ECHO)
    assert sorted(os.listdir(home.shard_files)) == [".new.toml.swp", ".other.toml.4711", "new.toml"]


def test_every_change_of_the_settings_is_seen_by_the_stamp(home: Home) -> None:
    path = home.shard_files / "new.toml"
    changes: list[Callable[[], object]] = [
        lambda: shard_files.write(home, "new", ECHO),
        lambda: path.write_text(ECHO + "instances = 2\n"),
        lambda: path.chmod(0o640),
        lambda: path.rename(home.shard_files / "other.toml"),
        lambda: shard_files.remove(home, "other"),
        lambda: home.config.write_text(MAIN + "instances = 2\n"),
        lambda: home.config.unlink(),
    ]
    seen = shard_files.settings_stamp(home)
    for number, change in enumerate(changes):
        change()
        assert shard_files.settings_stamp(home) != seen, number
        seen = shard_files.settings_stamp(home)
        assert shard_files.settings_stamp(home) == seen


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.dictionaries(
        TEXT, st.one_of(TEXT, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(TEXT))
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read_as_it_was_given(
    home: Home, options: dict[str, object]
) -> None:
    table = {"backend": "x", "context": ["a b", "ü"], "options": options}
    text = shard_files.text_of(table)
    assert tomllib.loads(text) == table
    shard_files.write(home, "new", text)
    assert shard_files.read(home) == {"new": table}


def test_what_has_no_place_in_toml_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be written as TOML"):
        shard_files.text_of({"options": {"x": object()}})
