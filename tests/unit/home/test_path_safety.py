"""Who can change what lies at a path, whoever runs the tests."""

import grp
import os
import pwd
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from autopoll.home import path_safety
from autopoll.home.path_safety import findings, how_to_mend

ME = os.geteuid()
US = frozenset((ME, 0))
STRANGERS = frozenset((ME + 4711,))  # for them, all that is ours is somebody else's


@pytest.fixture(autouse=True)
def forget() -> None:
    path_safety._is_private.cache_clear()


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A file three folders down."""
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    for each in (path, path.parent, path.parent.parent):
        each.chmod(0o755)
    return path


def found(path: Path, who: frozenset[int] = US) -> list[tuple[str, bool]]:
    return [(each.path, each.foreign) for each in findings(path, who)]


def test_a_path_of_our_own_in_a_sticky_folder_is_safe(deep: Path) -> None:
    assert found(deep) == []
    deep.parent.chmod(0o1777)
    assert found(deep) == []


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o702])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_whatever_others_may_write_to_on_the_way_is_found(
    deep: Path, mode: int, level: int
) -> None:
    spoilt = [deep, *deep.parents][level]
    spoilt.chmod(mode)
    assert found(deep) == [(str(spoilt), False)]


def test_the_end_of_a_path_may_not_be_a_sticky_folder(deep: Path) -> None:
    deep.parent.chmod(0o1777)
    assert found(deep.parent) == [(str(deep.parent), False)]


def test_what_belongs_to_somebody_else_is_found_folders_and_links_too(deep: Path) -> None:
    link = deep.parent / "link"
    link.symlink_to(deep)
    mine = [path for path, foreign in found(link, STRANGERS | {0}) if foreign]
    if ME:  # as root, root's own folders above count as well
        assert str(deep) in mine and str(link) in mine and str(deep.parent.parent) in mine
    assert str(link) in [path for path, _ in found(link, STRANGERS)]


@pytest.mark.parametrize("relative", [True, False])
def test_a_link_counts_with_its_own_folder_and_with_that_of_its_target(
    tmp_path: Path, deep: Path, relative: bool
) -> None:
    link = tmp_path / "links" / "link"
    link.parent.mkdir(mode=0o755)
    link.symlink_to(os.path.relpath(deep, link.parent) if relative else deep)
    assert found(link) == []
    link.parent.chmod(0o777)
    assert found(link) == [(str(link.parent), False)]
    link.parent.chmod(0o755)
    deep.parent.parent.chmod(0o777)
    assert found(link) == [(str(deep.parent.parent), False)]


def test_links_in_a_circle_and_paths_that_are_missing_are_safe(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for path in ("one", "missing", "missing/below", "one/below"):
        assert found(tmp_path / path) == []


# --- groups


def account(name: str, uid: int, gid: int) -> SimpleNamespace:
    return SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=gid)


class Accounts:
    """A machine with other accounts and groups than this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.local = folder / "passwd"
        self.local.write_text("root:x:0:0::/root:/bin/sh\nsync:x:5:0::/:/bin/sync\n# note\n:::\n")
        self.accounts: dict[str, SimpleNamespace] = {}
        self.groups: dict[int, SimpleNamespace] = {}
        self.by_uid: dict[int, SimpleNamespace] = {}
        monkeypatch.setattr(path_safety, "_ACCOUNTS", self.local)
        monkeypatch.setattr(pwd, "getpwnam", lambda name: self.accounts[name])
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: self.by_uid[uid])
        monkeypatch.setattr(grp, "getgrgid", lambda gid: self.groups[gid])

    def add(self, name: str, uid: int, gid: int, *, remote: bool = False) -> None:
        self.accounts[name] = self.by_uid[uid] = account(name, uid, gid)
        if not remote:
            with self.local.open("a") as file:
                file.write(f"{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n")

    def group(self, name: str, gid: int, *members: str) -> None:
        self.groups[gid] = SimpleNamespace(gr_name=name, gr_mem=list(members))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Accounts:
    return Accounts(monkeypatch, tmp_path)


def is_private(gid: int, uid: int = 1000) -> bool:
    return path_safety._is_private(gid, frozenset((uid, 0)))


def test_the_group_of_a_umask_of_002_is_private_until_somebody_else_is_in_it(machine) -> None:
    machine.add("ada", 1000, 1000)
    machine.add("bob", 1001, 1001)
    machine.group("ada", 1000)
    machine.group("also", 50, "ada", "gone", "root")
    machine.add("root", 0, 0, remote=True)
    assert is_private(1000) and is_private(50)
    machine.group("ada", 1000, "bob")
    path_safety._is_private.cache_clear()
    assert not is_private(1000)


def test_a_group_that_another_has_as_his_first_is_not_private(machine) -> None:
    machine.add("ada", 1000, 100)
    machine.group("users", 100)
    assert is_private(100)
    machine.add("bob", 1001, 100)
    path_safety._is_private.cache_clear()
    assert not is_private(100)


def test_a_group_of_the_directory_is_private_only_under_our_name(machine) -> None:
    machine.add("ada", 20000, 20000, remote=True)
    machine.group("ada", 20000)
    assert is_private(20000, 20000)
    machine.group("domain users", 20000)
    path_safety._is_private.cache_clear()
    assert not is_private(20000, 20000)


def test_the_group_of_root_has_accounts_of_the_system_and_no_others(machine) -> None:
    machine.group("root", 0)
    assert is_private(0)
    machine.add("bob", 1001, 0)
    path_safety._is_private.cache_clear()
    assert not is_private(0)


def test_a_group_without_a_name_is_private_with_our_own_number_only(machine) -> None:
    assert is_private(1000) and is_private(os.getegid())
    assert not is_private(54321)


def test_more_accounts_than_are_looked_at_leave_no_group_private(machine, monkeypatch) -> None:
    machine.group("ada", 1000, *(f"member{number}" for number in range(100)))
    assert not is_private(1000)
    machine.group("ada", 1000)
    monkeypatch.setattr(path_safety, "_LARGEST", 10)
    path_safety._is_private.cache_clear()
    assert not is_private(1000)


@pytest.mark.parametrize(("private", "expected"), [(True, 0), (False, 1)])
def test_what_a_group_may_write_to_is_safe_when_the_group_is_private(
    deep: Path, monkeypatch, private: bool, expected: int
) -> None:
    monkeypatch.setattr(path_safety, "_is_private", lambda gid, who: private)
    deep.chmod(0o664)
    assert len(found(deep)) == expected


# --- access lists: (tag, rights, number), user 1, owner's group 4, mask 16, others 32

NOBODY = 2**32 - 1


def access_list(path: Path, *more: tuple[int, int, int]) -> None:
    entries = [(1, 6, NOBODY), *more, (4, 4, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def test_somebody_whom_an_access_list_lets_write_is_found(deep: Path) -> None:
    access_list(deep, (2, 6, ME + 1))
    assert deep.stat().st_mode & 0o020, "the mask shows as the rights of the group"
    assert found(deep) == [(str(deep), False)]


def test_an_access_list_that_lets_others_only_read_is_safe(deep: Path) -> None:
    access_list(deep, (2, 4, ME + 1), (2, 6, ME))
    assert found(deep) == []


def test_a_group_in_an_access_list_counts_as_any_group(deep: Path, monkeypatch) -> None:
    access_list(deep, (8, 6, 54321))
    assert found(deep) == [(str(deep), False)]
    monkeypatch.setattr(path_safety, "_is_private", lambda gid, who: gid == 54321)
    assert found(deep) == []


# --- user namespaces


def test_who_has_no_number_here_may_own_the_way_and_never_the_end(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sandbox all of root's folders belong to one user who stands for everybody outside."""
    monkeypatch.setattr(path_safety, "outsiders", lambda: frozenset((ME, 0)))
    assert [path for path, _ in found(deep, STRANGERS)] == [str(deep)]


def test_where_every_user_has_a_number_nobody_is_an_outsider() -> None:
    path_safety.outsiders.cache_clear()
    has_all = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    assert not has_all or path_safety.outsiders() == frozenset()


# --- mends


def test_the_mend_is_the_exact_command_where_one_helps(deep: Path) -> None:
    deep.parent.chmod(0o777)
    deep.chmod(0o666)
    mend = how_to_mend(findings(deep, US), ME, deep.parent.parent)
    assert mend.endswith(f"chmod go-w {deep.parent} {deep}")


def test_of_a_folder_for_everybody_the_mend_is_to_move_away(deep: Path) -> None:
    deep.parent.chmod(0o1777)
    mend = how_to_mend(findings(deep.parent, US), ME, deep.parent)
    assert "chmod" not in mend and f"not below {deep.parent}" in mend
