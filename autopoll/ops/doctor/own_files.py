"""The home's own files: whose they are, and who may read them."""

import stat
from collections.abc import Iterator
from pathlib import Path

from autopoll.errors import ConfigError
from autopoll.home import var_check
from autopoll.home.home import socket_path
from autopoll.home.path_safety import quoted
from autopoll.ops.copied_home import refuse_copy
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good, of_error, unknown
from autopoll.ops.doctor.subject import Subject

_OTHERS = 0o077


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at var/ and at what is private in it."""
    home = subject.home
    if not home.config.is_file():
        yield failed("home", f"{home.root} has no {home.config.name}", "Make it one: autopoll init")
    try:
        home.var.stat()
    except FileNotFoundError:
        yield failed("home", f"{home.var} is missing", "Make it again with: autopoll init")
        return
    except OSError as error:
        yield unknown("home", f"{home.var}: {error.strerror}", "Look as the user who runs it.")
        return
    if complaint := var_check.complaint_about(home):
        yield failed("owner", *complaint)
    try:
        refuse_copy(home)
    except ConfigError as error:
        yield of_error("copy", error)
    wide = [path for path in private_files(subject) if _is_open(path)]
    for path in wide:
        mode = "700" if path.is_dir() else "600"
        why = f"{path} can be read by others (mode {stat.S_IMODE(path.stat().st_mode):04o})"
        yield degraded("mode", why, f"Run: chmod {mode} {quoted([str(path)])}; or doctor --fix")
    if not wide:
        yield good("home", str(home.root))


def private_files(subject: Subject) -> list[Path]:
    """Return the files and folders that only their owner is to read, of those that there are."""
    home = subject.home
    paths = [home.var, home.run, home.credentials, home.operator_token]
    paths += [home.poller_socket, socket_path(home)]
    if subject.config and (file := subject.config.bridge.url.file(home.root)):
        paths += [Path(f"{file}{end}") for end in ("", "-wal", "-shm")]
    return [path for path in paths if path.exists()]


def _is_open(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & _OTHERS)
    except OSError:
        return False
