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

# Of a process of the home: the least number, and how it is raised.
_LIMITS = (
    (resource.RLIMIT_NOFILE, 1024, "open files", "ulimit -n"),
    (resource.RLIMIT_NPROC, 256, "processes and threads", "ulimit -u"),
)
# Of a user, of the machine as a whole and of a container.
_INOTIFY = {
    "fs/inotify/max_user_instances": 16,
    "fs/inotify/max_user_watches": 1024,
    "user/max_inotify_instances": 16,
    "user/max_inotify_watches": 1024,
}
_NEARLY = 0.9  # of the processes that a control group may have
_GROUPS = Path("/sys/fs/cgroup")
_SLACK_MS = 2000
_LINGER = Path("/var/lib/systemd/linger")


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at what the machine allows."""
    short = [*_short_limits(subject.supervisord or 0), *_short_inotify(), *_full_group()]
    for what, mend in short:
        yield degraded("limits", what, mend)
    if not short:
        yield good("limits", "enough files, processes and watches of files are allowed")
    yield from _look_at_clock(subject)
    yield from _look_at_linger(subject)


def _short_limits(pid: int) -> Iterator[tuple[str, str]]:
    """Yield what a process may have too few of: supervisord, whose children inherit it, or we."""
    for limit, least, what, raised_by in _LIMITS:
        soft, _ = resource.prlimit(pid, limit)
        if soft != resource.RLIM_INFINITY and soft < least:
            words = f"the home may have {soft} {what}, fewer than {least}"
            yield words, f"{raised_by} {least}; then autopoll restart"


def _short_inotify() -> Iterator[tuple[str, str]]:
    for name, least in _INOTIFY.items():
        try:
            allowed = int(Path(f"/proc/sys/{name}").read_text("ascii"))
        except (OSError, ValueError):  # without inotify the store is looked at each second
            continue
        if allowed < least:
            setting = name.replace("/", ".")
            yield f"{setting} is {allowed}, fewer than {least}", f"sudo sysctl {setting}={least}"


def _full_group() -> Iterator[tuple[str, str]]:
    """Yield that the control group, as that of a service or a container, is nearly full."""
    try:
        own = Path("/proc/self/cgroup").read_text("ascii").strip().rpartition("::/")[2]
        group = _GROUPS / own
        most = int((group / "pids.max").read_text("ascii"))
        used = int((group / "pids.current").read_text("ascii"))
    except (OSError, ValueError):  # there is none, or no limit
        return
    if used >= _NEARLY * most:
        yield f"{used} of {most} processes of {group} are there", "Raise TasksMax, or pids.max."


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
