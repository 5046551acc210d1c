"""The watch for foreign writers, by inotify; where it cannot be made, what is used up is named."""

import errno
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import inotify_simple
import pytest
from bridge_calls import talk
from bridge_stores import SqliteStore

from autopoll.bridge.sqlite.watch import FolderWatch
from autopoll.errors import BridgeError


def refused(database: Path) -> tuple[str, str]:
    """Return why a database cannot be watched, and what to do."""
    with pytest.raises(BridgeError) as refused:
        FolderWatch(database)
    what = refused.value.what.removeprefix(f"cannot watch {database.parent}: ")
    return what, refused.value.mend


@pytest.mark.parametrize(
    ("number", "what", "mend"),
    [
        (
            errno.ENOSPC,
            "all of fs.inotify.max_user_watches are in use",
            "Raise fs.inotify.max_user_watches.",
        ),
        (
            errno.EMFILE,
            "all of fs.inotify.max_user_instances are in use",
            "Raise fs.inotify.max_user_instances.",
        ),
        (errno.ENOSYS, "Function not implemented", "This system has no inotify."),
    ],
)
def test_the_limit_is_named_and_not_a_full_disk(
    number: int, what: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify_simple.INotify, "add_watch", refuse)
    assert refused(tmp_path / "bridge.db") == (what, mend)


def test_a_process_without_descriptors_left_is_not_taken_for_a_limit_of_inotify(
    tmp_path: Path,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        found = refused(tmp_path / "bridge.db")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == ("all of ulimit -n are in use", "Raise ulimit -n.")


def test_a_folder_that_is_gone_is_not_taken_for_a_system_without_inotify(tmp_path: Path) -> None:
    what, mend = refused(tmp_path / "gone" / "bridge.db")
    assert what == "No such file or directory"
    assert mend == "Check that the folder is there and that this user may read it."


@pytest.mark.parametrize(
    "remove",
    [
        lambda patch: patch.setitem(sys.modules, "inotify_simple", None),
        lambda patch: patch.delattr(inotify_simple, "INotify"),
    ],
)
def test_a_system_without_inotify_is_named(
    remove: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch)
    what, mend = refused(tmp_path / "bridge.db")
    assert "inotify_simple" in what
    assert mend == "This system has no inotify."


def test_a_foreign_write_wakes_the_watch(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    bridge = store.open()
    talk(bridge)
    watch = bridge.watch()
    assert not watch.read()
    (tmp_path / "other").touch()
    assert not watch.read()
    store.foreign("INSERT INTO messages(message) VALUES('x')")
    assert watch.read()
    assert not watch.read()
    watch.close()
    watch.close()
    store.close()
