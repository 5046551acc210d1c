"""Whose home it is: what is refused before anything of it is read, and what goes on working.

That somebody else owns a home is played by taking us for somebody else; with real other users it is
done in tests/faults/test_foreign_home.py.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.cli import main
from autopoll.errors import ConfigError, Exit, NotFound, Untrusted
from autopoll.home import find_home, path_safety, shard_files, trust, trusted_homes, var_check
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.home.program_safety import scripts_among
from autopoll.ops.init import found, prepare
from autopoll.ops.start_checks import check_start

ME = os.geteuid()
ECHO = '[shards.main]\nbackend = "echo"\n'


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where trust is kept, and short sockets; and no home of the tester's own is found."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("AUTOPOLL_HOME", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_STATE_HOME", f"{short}/s")
        yield


@pytest.fixture(params=[0, 0o002, 0o022, 0o077], ids=lambda umask: f"umask {umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made, _ = found(tmp_path / "above" / "home")
    made.config.write_text(ECHO)
    made.program_files.mkdir(mode=0o700)
    (made.program_files / "main.conf").write_text("")
    shard_files.write(made, "notes", 'backend = "echo"\n')
    return made


def find(path: Path, **more: bool) -> Home:
    return find_home.find(str(path), {}, **more)


# --- what is refused, and its mend

PARTS: dict[str, Callable[[Home], Path]] = {
    "the folder": lambda home: home.root,
    "autopoll.toml": lambda home: home.config,
    "conf": lambda home: home.supervisord_conf.parent,
    "supervisord.conf": lambda home: home.supervisord_conf,
    "conf/shards.d": lambda home: home.program_files,
    "a file in conf/shards.d": lambda home: home.program_files / "main.conf",
    "shards.d": lambda home: home.shard_files,
    "a file in shards.d": lambda home: home.shard_files / "notes.toml",
    "a folder above": lambda home: home.root.parent,
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_home_that_others_may_write_to_is_refused_with_the_command_that_closes_it(
    home: Home, part: Callable[[Home], Path]
) -> None:
    path = part(home)
    closed = stat.S_IMODE(path.stat().st_mode)
    path.chmod(closed | 0o022)
    with pytest.raises(Untrusted, match="can be written by others") as caught:
        find(home.root)
    assert caught.value.exit_code == Exit.USAGE
    assert str(path) in caught.value.what
    assert f"chmod go-w {path}" in caught.value.mend
    path.chmod(closed)
    assert find(home.root) == home


def test_one_command_closes_all_that_is_open(home: Home) -> None:
    for part in (home.root, home.config, home.supervisord_conf.parent):
        part.chmod(0o777)
    with pytest.raises(Untrusted) as caught:
        find(home.root)
    words = caught.value.mend.partition("chmod go-w ")[2].partition(";")[0].split()
    assert words == [str(home.root), str(home.config), str(home.supervisord_conf.parent)]


def be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ME + 4711)


def test_a_home_of_somebody_else_is_refused_naming_its_owner(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ME == 0:
        for path in (home.root, *home.root.rglob("*")):
            os.chown(path, 65534, -1, follow_symlinks=False)
    be_somebody_else(monkeypatch)
    owner = path_safety.name_of(home.root.stat().st_uid)
    with pytest.raises(Untrusted, match=f"belongs to user {owner}") as caught:
        find(home.root)
    assert caught.value.exit_code == Exit.USAGE
    if ME == 0:
        assert f"sudo -u {owner} autopoll" in caught.value.mend
    assert "--trust" in caught.value.mend


def test_a_link_to_a_home_counts_with_the_folder_it_lies_in(home: Home, tmp_path: Path) -> None:
    link = tmp_path / "shared" / "link"
    link.parent.mkdir()
    link.symlink_to(home.root)
    assert find(link) == home
    link.parent.chmod(0o777)
    with pytest.raises(Untrusted, match=f"{link.parent} can be written"):
        find(link)


def test_settings_that_are_a_link_count_with_both_of_its_ends(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    home.config.rename(elsewhere / "autopoll.toml")
    home.config.symlink_to(elsewhere / "autopoll.toml")
    assert find(home.root) == home
    elsewhere.chmod(0o777)
    with pytest.raises(Untrusted, match=f"{elsewhere} can be written"):
        find(home.root)


def test_a_home_that_cannot_be_written_at_all_is_one(home: Home) -> None:
    for path in (home.config, home.supervisord_conf):
        path.chmod(0o444)
    for folder in (home.program_files, home.supervisord_conf.parent, home.root):
        folder.chmod(0o555)
    assert find(home.root) == home
    home.root.chmod(0o755)


def test_names_that_lead_nowhere_are_no_home_and_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    monkeypatch.chdir(tmp_path)
    for name in ("one", "missing", "one/below", "~no such user/x", "../" * 50 + "missing"):
        with pytest.raises(NotFound, match="is no autopoll home"):
            find_home.find(name, {})
    with pytest.raises(ConfigError, match="cannot be made"):
        found(tmp_path / "one")


def test_settings_that_are_a_pipe_hold_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "autopoll.toml")
    home, _ = found(tmp_path)
    with pytest.raises(ConfigError, match="not a regular file"):
        load(home, {})


# --- the search upward


def planted(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)
    (folder / "autopoll.toml").write_text(ECHO)
    below = folder / "mine" / "sub"
    below.mkdir(parents=True)
    return below


def test_what_lies_in_a_folder_for_everybody_makes_no_home_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = planted(tmp_path / "shared")
    for here in (below, below.parent, below.parent.parent):
        monkeypatch.chdir(here)
        with pytest.raises(NotFound, match=r"shared, which others may write to: .* passed over"):
            find_home.find(None, {})
    monkeypatch.chdir(below)
    with pytest.raises(NotFound):
        find_home.find(None, {}, trusting=True)  # it is another folder that would be trusted
    with pytest.raises(Untrusted, match="can be written by others"):
        find(tmp_path / "shared")


def test_the_search_does_not_go_on_above_a_folder_for_everybody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = home.root / "shared" / "mine"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_home.find(None, {}) == home
    below.parent.chmod(0o1777)
    with pytest.raises(NotFound, match="search ends at"):
        find_home.find(None, {})


def test_a_home_of_our_own_that_was_left_open_is_told_so_where_it_is_found(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.root.chmod(0o777)
    monkeypatch.chdir(home.root)
    with pytest.raises(Untrusted, match="can be written by others"):
        find_home.find(None, {})


def test_the_search_ends_where_another_file_system_begins(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = home.root / "mounted" / "sub"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    real = Path.stat

    def stat_of(path: Path, **more: bool) -> os.stat_result:
        facts = real(path, **more)
        if not path.is_relative_to(home.root / "mounted"):
            return facts
        return os.stat_result((*facts[:2], facts.st_dev + 1, *facts[3:]))

    monkeypatch.setattr(Path, "stat", stat_of)
    with pytest.raises(NotFound, match=f"below {home.root}, which is another file system"):
        find_home.find(None, {})


# --- trust


def test_trust_is_remembered_for_one_path_and_can_be_taken_back(home: Home, tmp_path: Path) -> None:
    home.config.chmod(0o666)
    assert find(home.root, trusting=True) == find(home.root) == home
    kept = trusted_homes.place()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text() == f"{home.root}\n"
    other, _ = found(tmp_path / "home2")
    other.config.chmod(0o666)
    with pytest.raises(Untrusted):
        find(other.root)
    find(other.root, trusting=True)
    find(other.root, trusting=True)
    assert kept.read_text().splitlines() == [str(home.root), str(other.root)]
    kept.write_text(f"{other.root}\n")
    assert find(other.root) == other
    with pytest.raises(Untrusted):
        find(home.root)


def test_trust_holds_for_the_folder_that_the_search_begins_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = planted(tmp_path / "shared")
    monkeypatch.chdir(tmp_path / "shared")
    assert find_home.find(None, {}, trusting=True).root == tmp_path / "shared"
    monkeypatch.chdir(below)
    assert find_home.find(None, {}).root == tmp_path / "shared"


@pytest.mark.parametrize("mode", [0o622, 0o666])
def test_a_list_of_trusted_homes_that_others_may_write_to_is_refused(home: Home, mode: int) -> None:
    home.config.chmod(0o666)
    find(home.root, trusting=True)
    trusted_homes.place().chmod(mode)
    with pytest.raises(Untrusted, match="list of trusted homes is not safe"):
        find(home.root)
    trusted_homes.place().chmod(0o600)
    trusted_homes.place().parent.chmod(0o777)
    with pytest.raises(Untrusted, match="list of trusted homes is not safe"):
        find(home.root)


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "spoil",
    [
        pipe,
        Path.mkdir,
        lambda path: path.write_bytes(b"\x00\xff" * 1000),
        lambda path: path.write_bytes(b"/" + b"x" * 3_000_000),
        lambda path: path.write_text(""),
    ],
    ids=["a pipe", "a folder", "no text", "huge", "empty"],
)
def test_a_list_of_trusted_homes_that_is_none_trusts_nothing(home: Home, spoil) -> None:
    home.config.chmod(0o666)
    trusted_homes.place().parent.mkdir(parents=True)
    spoil(trusted_homes.place())
    if trusted_homes.place().exists():
        trusted_homes.place().chmod(0o700)
    with pytest.raises(Untrusted, match="can be written by others"):
        find(home.root)


def test_the_list_of_trusted_homes_is_bounded(home: Home) -> None:
    trusted_homes.place().parent.mkdir(parents=True)
    trusted_homes.place().write_text("".join(f"/{number}\n" for number in range(1000)))
    trusted_homes.place().chmod(0o600)
    home.config.chmod(0o666)
    with pytest.raises(Untrusted, match="holds 1000 homes"):
        find(home.root, trusting=True)


def test_no_trust_holds_for_a_var_of_somebody_else(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ME == 0:
        os.chown(home.var, 65534, -1)
        monkeypatch.setattr(trust, "owner_of", lambda home: (0, 0))
    else:
        be_somebody_else(monkeypatch)
    with pytest.raises(Untrusted, match="holds the tokens"):
        find(home.root, trusting=True)
    assert not trusted_homes.place().exists()


# --- var


def test_a_var_that_others_may_write_to_is_refused_whatever_was_trusted(home: Home) -> None:
    home.var.chmod(0o770)
    if not path_safety.others_may_write(str(home.var), home.var.stat(), frozenset((ME, 0))):
        home.var.chmod(0o777)
    with pytest.raises(Untrusted, match=f"{home.var} can be written by others") as caught:
        var_check.require_whole(find(home.root, trusting=True))
    assert f"chmod 700 {home.var}" in caught.value.mend


@pytest.mark.parametrize(
    "name",
    [
        "", "lock", "lock/supervisord.lock", "run", "run/beats", "log", "log/poller.log",
        "log/worker.stderr", "log/incidents.jsonl", "bridge.db", "bridge.db-wal", "credentials",
    ],
)  # fmt: skip
def test_whatever_autopoll_has_made_in_var_as_another_user_is_found(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = home.var / name
    if not path.exists():
        path.write_text("")
    home.make_private()
    assert var_check.complaint_about(home) is None
    real, foreign = os.lstat, str(path)

    def lstat(path: str, **more: int) -> os.stat_result:
        facts = real(path, **more)
        is_foreign = os.fspath(path) == foreign
        return os.stat_result((*facts[:4], ME + 1, *facts[5:])) if is_foreign else facts

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(Untrusted, match=f"{path} belongs to user") as caught:
        var_check.require_whole(home)
    assert caught.value.exit_code == Exit.USAGE
    me = path_safety.name_of(ME)
    assert f"sudo chown -R {me}: {home.var}" in caught.value.mend or me == str(ME)


def test_what_somebody_else_has_put_beside_in_var_is_no_hindrance(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.var / "backup.db").write_text("")
    (home.run / "bell.fifo").write_text("")  # whose it is, its reader looks at
    (home.log / "poller.log.1").write_text("")
    beside = ("backup.db", "bell.fifo", "poller.log.1")
    real = os.lstat

    def lstat(path: str, **more: int) -> os.stat_result:
        facts = real(path, **more)
        ours = not str(path).endswith(beside)
        return facts if ours else os.stat_result((*facts[:4], ME + 1, *facts[5:]))

    monkeypatch.setattr(os, "lstat", lstat)
    var_check.require_whole(home)


# --- own modes


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_has_modes_of_its_own_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    home, _ = found(tmp_path / "above" / "home")
    home.config.write_text(ECHO)
    prepare(home, load(home, {}))
    for folder in (home.root.parent, home.root, home.supervisord_conf.parent):
        assert mode(folder) == 0o755 & ~umask, folder
    for file in (home.config, home.supervisord_conf):
        assert mode(file) == 0o644 & ~umask, file
    for folder in (home.var, *(each for each in home.var.rglob("*") if each.is_dir())):
        assert mode(folder) == 0o700, folder
    for file in (each for each in home.var.rglob("*") if each.is_file()):
        assert mode(file) == 0o600, file
    assert find(home.root) == home


def test_the_folder_of_short_sockets_cannot_be_written_by_others_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    found(tmp_path / ("long" * 30))
    short = Path(os.environ["XDG_STATE_HOME"])
    assert mode(short) == 0o755 & ~umask
    assert mode(short / "autopoll" / "sock") == 0o700


def test_no_command_makes_a_folder_that_others_may_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """Folders above what is written, too: those of an agent's program, for one."""
    home, _ = found(tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    options = ["--client", "cursor", "--scope", "project", "--home", str(home.root)]
    assert main(["mcp", "install", *options]) == Exit.OK
    assert mode(tmp_path / ".cursor") & 0o022 == 0


def test_init_refuses_settings_that_were_planted_in_an_open_folder(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    planted(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(Untrusted, match="can be written by others"):
        found(folder)
    assert sorted(folder.rglob("*")) == before


# --- programs


def setting(home: Home, *command: str) -> Setting:
    return Setting(shard="main", root=home.root, context=[], options={"command": list(command)})


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o755)
    path = folder / "answerer"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def by_path(path: Path) -> tuple[str, ...]:
    return (str(path),)


def by_a_link(path: Path) -> tuple[str, ...]:
    link = path.parent.parent / "link"
    link.symlink_to(path)
    return (str(link),)


def as_a_script(path: Path) -> tuple[str, ...]:
    return ("/bin/sh", str(path))


def as_a_script_of_env(path: Path) -> tuple[str, ...]:
    return ("/usr/bin/env", "-i", "sh", str(path))


WAYS = [by_path, by_a_link, as_a_script, as_a_script_of_env]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("spoil", "whose"),
    [(lambda p: p.chmod(0o777), ""), (lambda p: p.parent.chmod(0o1777), "..")],
    ids=["open itself", "in a folder for everybody"],
)
def test_a_program_that_others_can_change_is_refused_before_it_is_run(
    home: Home, program: Path, way, spoil, whose: str
) -> None:
    words = way(program)
    open_backend("command", setting(home, *words))
    spoil(program)
    with pytest.raises(Untrusted, match=r"shards.main.options.command: .* would be run") as caught:
        open_backend("command", setting(home, *words))
    assert str(program.parent if whose else program) in caught.value.what
    assert "--trust" in caught.value.mend
    trusted_homes.remember(home.root)
    open_backend("command", setting(home, str(program)))


def test_a_program_of_the_process_tree_that_others_can_change_is_refused_by_up(
    home: Home, program: Path
) -> None:
    text = home.supervisord_conf.read_text()
    home.supervisord_conf.write_text(f"{text}\n[program:more]\ncommand = {program} 'a b'\n")
    check_start(home, load(home, {}))
    program.chmod(0o777)
    with pytest.raises(Untrusted, match=f"{program} would be run"):
        check_start(home, load(home, {}))


def test_a_file_that_the_process_tree_includes_counts_as_well(home: Home, program: Path) -> None:
    text = home.supervisord_conf.read_text()
    home.supervisord_conf.write_text(
        text.replace("shards.d/*.conf", f"shards.d/*.conf {program.parent}/*")
    )
    check_start(home, load(home, {}))
    program.chmod(0o777)
    with pytest.raises(Untrusted, match=f"{program} would be run"):
        check_start(home, load(home, {}))


def test_words_of_a_command_that_are_run_are_told_from_mere_data(tmp_path: Path) -> None:
    for name in ("data", "more.db", "bot.py", "tool"):
        (tmp_path / name).write_text("")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("")

    def among(program: str, *words: str) -> list[str]:
        return [Path(each).name for each in scripts_among(words, tmp_path, program)]

    assert among("mybot", "data", "more.db") == []
    assert among("mybot", "data", "bot.py", "tool") == ["bot.py", "tool"]
    assert among("/usr/bin/python3.12", "-u", "data", "more.db") == ["data"]
    assert among("python3", "package") == ["package"]
    assert among("python3", "-c", "print(1)", "/tmp", "/dev/null") == []
    assert among("sh", "", "x\0y", "é" * 5000, "missing") == []


def test_a_claude_program_that_others_can_change_is_not_asked_for_its_version(
    home: Home, program: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho 9.9.9\n")
    program.chmod(0o777)
    options = {"cli_path": str(program)}
    with pytest.raises(ConfigError, match="would be run"):
        open_backend(
            "claude-code", Setting(shard="main", root=home.root, context=[], options=options)
        )
    assert not ran.exists()


def test_what_lies_in_our_own_installation_is_not_looked_at(home: Home) -> None:
    open_backend("command", setting(home, sys.executable, "-c", "0"))
