"""The text of the systemd unit by which a home runs from boot on."""

import os
import pwd
import re
import sys
from enum import StrEnum
from pathlib import Path

import msgspec

from autopoll.errors import UsageError
from autopoll.home.config import STOP_WAIT_S
from autopoll.home.home import Home
from autopoll.home.trust import owner_of
from autopoll.ops.readiness import START_LIMIT_S

# The groups of programs stop one after another; then leftovers are ended.
STOP_S = 3 * STOP_WAIT_S + 30
START_S = int(START_LIMIT_S) + STOP_S  # what is left of a start before is ended first
_HOME_MARK = "# autopoll-home: "
_PLAIN = re.compile(r"[\w@+=:,./-]+", re.ASCII)
_LINGER_MARK = "# autopoll-linger: enabled"


class UnitScope(StrEnum):
    """Whose service it is: of the user, with the user's systemd, or of the machine."""

    USER = "user"
    SYSTEM = "system"


class ServiceUnit(msgspec.Struct, frozen=True):
    """What a unit is made of; `path` is the PATH that the home's programs are found by."""

    home: Path
    scope: UnitScope
    program: list[str]
    user: str
    user_home: str
    path: str
    lingers: bool = False  # because we have said so to loginctl

    def text(self) -> str:
        """Return the unit file."""
        is_system = self.scope is UnitScope.SYSTEM
        rest = [*self.program[1:], "up", "--foreground", "--home", str(self.home)]
        words = [_quoted(self.program[0])]  # in which systemd replaces no $
        words += [_quoted(word).replace("$", "$$") for word in rest]
        environment = [f"PATH={self.path}", f"HOME={self.user_home}"]
        lines = [
            "# Written by `autopoll service install`; `autopoll service remove` removes it.",
            f"{_HOME_MARK}{self.home}",
            *([_LINGER_MARK] if self.lingers else []),
            "# Add to it by `systemctl edit`: this file is written again by the next install.",
            "",
            "[Unit]",
            f"Description=autopoll, home {_doubled(str(self.home))}",
            "Documentation=man:autopoll(1)",
            *(["Wants=network-online.target", "After=network-online.target"] if is_system else []),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=all",
            f"ExecStart={' '.join(words)}",
            f"Environment={' '.join(map(_quoted, environment))}",
            *([f"User={self.user}"] if is_system else []),
            "Restart=on-failure",
            "RestartSec=5",
            "# A mistake in the settings is mended by a person.",
            "RestartPreventExitStatus=4",
            "KillMode=mixed",
            f"TimeoutStartSec={START_S}",
            f"TimeoutStopSec={STOP_S}",
            "# A process that the kernel has ended for its memory is started again by itself.",
            "OOMPolicy=continue",
            "NoNewPrivileges=yes",
            "LockPersonality=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "",
            "[Install]",
            f"WantedBy={'multi-user' if is_system else 'default'}.target",
        ]
        return "\n".join(lines) + "\n"


def unit_of(home: Home, scope: UnitScope) -> ServiceUnit:
    """Return the unit for a home, run by the user to whom it belongs.

    Raises UsageError when a path holds what no unit can say.
    """
    uid, _ = owner_of(home)
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        raise UsageError(
            f"{home.root} belongs to user {uid}, who has no account here",
            "Give the folder to an account, with chown.",
        ) from None
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(":")]
    absolute = [each for each in dict.fromkeys(folders) if each.startswith("/") and _is_plain(each)]
    unit = ServiceUnit(
        home=home.root,
        scope=scope,
        program=_program(),
        user=account.pw_name,
        user_home=account.pw_dir,
        path=":".join(absolute),
    )
    for word in (str(home.root), *unit.program, account.pw_dir):
        if not _is_plain(word):
            raise UsageError(f"{word!r} holds a control character, which no unit can", "Rename it.")
    return unit


def home_in(text: str) -> Path | None:
    """Return the home of a unit that `service install` has written; None for any other."""
    for line in text.splitlines():
        if line.startswith(_HOME_MARK):
            return Path(line.removeprefix(_HOME_MARK))
    return None


def has_lingering(text: str) -> bool:
    """Tell whether a unit says that lingering was enabled with it."""
    return _LINGER_MARK in text.splitlines()


def _program() -> list[str]:
    """Return the words that start autopoll: the command as it was called, or its module."""
    for command in (Path(os.path.abspath(sys.argv[0])), Path(sys.executable).with_name("autopoll")):  # noqa: PTH100
        if command.name == "autopoll" and os.access(command, os.X_OK) and command.is_file():
            return [str(command)]
    return [sys.executable, "-P", "-m", "autopoll"]


def _is_plain(text: str) -> bool:
    return text.isprintable()


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back, whatever is in it."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = _doubled(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
