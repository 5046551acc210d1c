"""Installs a home as a systemd service, and takes it away: only what it has made itself."""

import os
import re
import subprocess
from pathlib import Path

import msgspec

from autopoll.errors import AutopollError, NotFound, UsageError
from autopoll.home import files
from autopoll.home.home import Home
from autopoll.home.lock import holder_of
from autopoll.ops.change_lock import Report
from autopoll.ops.service_unit import (
    START_S,
    STOP_S,
    ServiceUnit,
    UnitScope,
    has_lingering,
    home_in,
)

BOOTED = Path("/run/systemd/system")  # as sd_booted(3) looks
LINGERING = Path("/var/lib/systemd/linger")
_SYSTEM_UNITS = Path("/etc/systemd/system")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ServiceState(msgspec.Struct, frozen=True):
    """What there is of the service of a home; `active` and `enabled` in systemd's words."""

    name: str
    scope: UnitScope
    file: str
    installed: bool
    active: str
    enabled: str
    status: str
    lingers: bool


class SystemdService:
    """The service of one name, of the user or of the machine."""

    def __init__(self, home: Home, name: str, scope: UnitScope) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"--name: {name!r} is no name of a unit",
                "Allowed: A-Z a-z 0-9 _ . -, up to 100 of them, and no - or . first.",
            )
        self.home = home
        self.name = name.removesuffix(".service")
        self.scope = scope
        self.file = _folder(scope) / f"{self.name}.service"

    def install(self, unit: ServiceUnit, report: Report) -> None:
        """Write the unit, enable it, and start it unless the home is up already.

        Raises AutopollError, with nothing left of a unit that was not there before.
        """
        before = self._own_text()
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            files.put(self.file, unit.text().encode(), durable=True, mode=0o644)
        except OSError as error:
            raise self._cannot_write(error) from error
        report(f"written: {self.file}")
        try:
            self._systemctl("daemon-reload")
            self._systemctl("enable", self.file.name)
        except AutopollError:
            self._put_back(before)
            raise
        report(f"enabled: {self.name} starts with {self._occasion()}")
        if holder_of(self.home.supervisord_lock) and self.state().active != "active":
            report(f"{self.home.root} is up already; from the next start on it is the service's: ")
            report(f"  autopoll down && {self._command('start')}")
            return
        report("starting it")
        self._systemctl("start", self.file.name, patience_s=START_S + 10)
        report(f"started: {self._command('status')}")

    def remove(self, report: Report) -> bool:
        """Stop, disable and remove the unit; tell whether there was one.

        Raises AutopollError for a unit that is not of this home.
        """
        text = self._own_text()
        if text is None:
            return False
        if BOOTED.is_dir():
            report("stopping it")
            self._systemctl("disable", "--now", self.file.name, patience_s=STOP_S + 10)
        try:
            self.file.unlink()
        except OSError as error:
            raise self._cannot_write(error) from error
        if BOOTED.is_dir():
            self._systemctl("daemon-reload")
        report(f"removed: {self.file}")
        if has_lingering(text) and not self._others_linger():
            linger("disable-linger")
            report("lingering is disabled again")
        return True

    def state(self) -> ServiceState:
        """Return what there is of it now."""
        facts = dict.fromkeys(("ActiveState", "UnitFileState", "StatusText"), "")
        if BOOTED.is_dir():
            shown = self._systemctl("show", self.file.name, f"--property={','.join(facts)}")
            facts |= dict(line.partition("=")[::2] for line in shown.splitlines())
        return ServiceState(
            name=self.name,
            scope=self.scope,
            file=str(self.file),
            installed=self._own_text() is not None,
            active=facts["ActiveState"] or "unknown",
            enabled=facts["UnitFileState"] or "unknown",
            status=facts["StatusText"],
            lingers=lingers(),
        )

    def require_free(self) -> None:
        """Raise AutopollError when there is a unit of this name that is not of this home."""
        self._own_text()

    def _own_text(self) -> str | None:
        """Return the unit of this home; None when there is none of this name."""
        if not os.path.lexists(self.file):
            return None
        text = (files.get(self.file) or b"").decode(errors="replace")
        if (owner := home_in(text)) is None:
            raise AutopollError(
                f"{self.file} was not written by autopoll; it is left alone",
                "Give the service another name: --name NAME",
            )
        if owner != self.home.root:
            raise AutopollError(
                f"{self.file} is the service of the home {owner}; it is left alone",
                "Give the service of this home another name: --name NAME",
            )
        return text

    def _put_back(self, before: str | None) -> None:
        if before is None:
            self.file.unlink(missing_ok=True)
        else:
            files.put(self.file, before.encode(), durable=True, mode=0o644)

    def _others_linger(self) -> bool:
        """Tell whether another unit beside this one needs that we have enabled lingering."""
        return any(
            has_lingering((files.get(each) or b"").decode(errors="replace"))
            for each in self.file.parent.glob("*.service")
        )

    def _cannot_write(self, error: OSError) -> AutopollError:
        mend = "Run it as root: sudo autopoll …" if self.scope is UnitScope.SYSTEM else ""
        return AutopollError(f"{self.file} cannot be written: {error.strerror}", mend)

    def _occasion(self) -> str:
        return "the machine" if self.scope is UnitScope.SYSTEM or lingers() else "your login"

    def _command(self, verb: str) -> str:
        return f"systemctl {'--user ' if self.scope is UnitScope.USER else ''}{verb} {self.name}"

    def _systemctl(self, *words: str, patience_s: float = 60) -> str:
        of_user = ["--user"] if self.scope is UnitScope.USER else []
        return _run(["systemctl", *of_user, *words], patience_s)


def require_systemd() -> None:
    """Raise NotFound where systemd does not run."""
    if not BOOTED.is_dir():
        raise NotFound(
            "systemd does not run here, so nothing was written",
            "Use the unit above on a machine that it runs on, or run: autopoll up --foreground",
        )


def default_scope() -> UnitScope:
    """Return the scope that fits who asks."""
    return UnitScope.SYSTEM if os.geteuid() == 0 else UnitScope.USER


def lingers() -> bool:
    """Tell whether services of this user run without a login."""
    return (LINGERING / _user()).exists()


def linger(verb: str) -> None:
    """Enable or disable lingering by loginctl; raises AutopollError."""
    _run(["loginctl", verb, _user()], 60)


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _folder(scope: UnitScope) -> Path:
    if scope is UnitScope.SYSTEM:
        return _SYSTEM_UNITS
    settings = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(settings) if settings.startswith("/") else Path("~/.config").expanduser()
    return base / "systemd" / "user"


def _run(command: list[str], patience_s: float) -> str:
    environ = dict(os.environ)
    # After `sudo` or `su` it is missing, and systemctl finds the user's systemd by it.
    if "XDG_RUNTIME_DIR" not in environ and Path(f"/run/user/{os.geteuid()}").is_dir():
        environ["XDG_RUNTIME_DIR"] = f"/run/user/{os.geteuid()}"
    words = " ".join(command)
    try:
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience_s
        )
    except FileNotFoundError as error:
        raise NotFound(f"there is no {command[0]} here", "Install systemd.") from error
    except subprocess.TimeoutExpired as error:
        raise AutopollError(f"`{words}` took more than {patience_s:.0f} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise AutopollError(f"`{words}` failed: {said}", _mend(command))
    return done.stdout.decode(errors="replace")


def _mend(command: list[str]) -> str:
    if "start" in command:
        of_user = "--user " if "--user" in command else ""
        return f"See: journalctl {of_user}-n 50 -u {command[-1]}"
    return "Log in as that user itself, not by su." if "--user" in command else ""
