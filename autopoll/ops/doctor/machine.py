"""The machine: its limits, its clock, and whether the home outlives a login."""

import os
import pwd
import resource
from collections.abc import Iterator
from pathlib import Path

from autopoll.clock import wall_ms
from autopoll.home import disk_samples
from autopoll.ops.doctor.findings import DoctorFinding, degraded, good
from autopoll.ops.doctor.subject import Subject

_FILES = 1024
_INOTIFY = {"max_user_instances": 16, "max_user_watches": 1024}
_SLACK_MS = 2000
_LINGER = Path("/var/lib/systemd/linger")


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at what the machine allows."""
    short = [*_short_limits()]
    for what, mend in short:
        yield degraded("limits", what, mend)
    if not short:
        yield good("limits", "enough open files and watches of files are allowed")
    yield from _look_at_clock(subject)
    yield from _look_at_linger(subject)


def _short_limits() -> Iterator[tuple[str, str]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        what = f"a process may have {soft} open files, fewer than {_FILES}"
        yield what, f"ulimit -n {min(_FILES, hard)}; then autopoll restart"
    for name, least in _INOTIFY.items():
        try:
            allowed = int(Path(f"/proc/sys/fs/inotify/{name}").read_text("ascii"))
        except (OSError, ValueError):  # without inotify the store is looked at each second
            continue
        if allowed < least:
            what = f"inotify: {name} is {allowed}, fewer than {least}"
            yield what, f"sudo sysctl fs.inotify.{name}={least}"


def _look_at_clock(subject: Subject) -> Iterator[DoctorFinding]:
    """Look whether something was written later than now."""
    now = wall_ms()
    written = [each.at for each in disk_samples.read(subject.home)]
    if subject.config is not None and subject.bridge.newest_at is not None:
        written.append(subject.bridge.newest_at)
    ahead = max(written, default=now) - now
    if ahead > _SLACK_MS:
        what = f"something was written {ahead / 1000:.0f} s later than now: the clock was set back"
        yield degraded("clock", what, "Set it right, as by NTP; questions are answered meanwhile.")


def _look_at_linger(subject: Subject) -> Iterator[DoctorFinding]:
    """Look whether a service of the user's own ends with the user's last login."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container: nobody logs in under that number
        return
    units = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "systemd/user"
    root = str(subject.home.root)
    try:
        mine = [path for path in units.glob("*.service") if root in path.read_text("utf-8")]
    except (OSError, UnicodeDecodeError):
        return
    if mine and not (_LINGER / user).exists():
        what = f"{mine[0].name} ends when {user} logs out"
        yield degraded("service", what, f"Run: loginctl enable-linger {user}")
