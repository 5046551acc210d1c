"""A home keeps one identity, which no other has."""

import errno
from pathlib import Path

import pytest

from autopoll.errors import AutopollError
from autopoll.home.home import Home
from autopoll.home.identity import identity_of


def a_home(folder: Path) -> Home:
    home = Home(folder)
    home.make_private()
    return home


def test_a_home_keeps_its_identity_and_no_other_has_the_same(tmp_path: Path) -> None:
    home, other = a_home(tmp_path / "one"), a_home(tmp_path / "two")
    made = identity_of(home)
    assert len(made) == 32
    assert identity_of(home) == made != identity_of(other)
    assert home.identity.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"", b"0123", b"\xff" * 32, b"0" * 33])
def test_an_identity_of_another_form_is_made_again(tmp_path: Path, left: bytes) -> None:
    home = a_home(tmp_path)
    home.identity.write_bytes(left)
    assert identity_of(home) == identity_of(home) == home.identity.read_text()


def test_an_identity_that_cannot_be_read_for_now_is_an_error_and_stays(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    made = identity_of(home)
    elsewhere = tmp_path / "elsewhere"
    home.identity.rename(elsewhere)
    home.identity.symlink_to(elsewhere)  # which is not followed
    with pytest.raises(AutopollError, match=r"cannot read .*home\.id"):
        identity_of(home)
    assert elsewhere.read_text() == made


def test_an_identity_that_cannot_be_kept_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = a_home(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("autopoll.home.identity.files.put", full)
    with pytest.raises(AutopollError, match=r"cannot write .*home\.id: No space"):
        identity_of(home)
