"""A watch that cannot be made is refused with the limit that is used up."""

import errno
import os
from pathlib import Path

import inotify_simple
import pytest

from autopoll.bridge.sqlite.watch import FolderWatch
from autopoll.errors import BridgeError


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "all of fs.inotify.max_user_watches are in use"),
        (errno.EMFILE, "all of fs.inotify.max_user_instances are in use"),
        (errno.ENOSYS, os.strerror(errno.ENOSYS)),
    ],
)
def test_the_reason_names_the_limit_and_not_a_full_disk(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(inotify_simple.INotify, "add_watch", refuse)
    with pytest.raises(BridgeError, match=reason) as refused:
        FolderWatch(tmp_path / "bridge.db")
    assert refused.value.mend
