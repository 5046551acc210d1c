"""The bridge: reached, whole, of the right version, and on a disk where it works."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from autopoll.errors import AutopollError, BridgeError
from autopoll.home.byte_size import in_words
from autopoll.home.home import Home
from autopoll.home.lock import holder_of
from autopoll.home.path_safety import quoted
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good, of_error
from autopoll.ops.doctor.subject import EXAMINE_S, Subject
from autopoll.process import orphans
from autopoll.process.proc_stat import read_stat

# In this order: a server that refuses a password may speak of SSL, too.
_TROUBLES = (
    ("name of the server", re.compile("translate host name|name or service|resolve|getaddrinfo")),
    ("login", re.compile("password|authentication|pg_hba|role .* does not exist|peer")),
    ("TLS", re.compile("ssl|tls|certificate")),
    ("database of the server", re.compile("database .* does not exist")),
    ("connection to the server", re.compile("refused|no such file|time.?out|reach")),
)
_LARGE_LOG = 64_000_000  # bytes; the poller cuts it back to a quarter of that


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at the store, and at its file where it has one."""
    if subject.config is None:
        return
    file = subject.config.bridge.url.file(subject.home.root)
    if file is not None:
        yield from _look_at_file(subject.home, file.resolve())
    facts = subject.bridge
    if facts.error is not None:
        error = facts.error
        if isinstance(error, BridgeError) and "is damaged" in error.what:
            yield failed("database", error.what, _restore(subject.home))
        else:
            yield of_error(_trouble(error), error)
        return
    whole = "" if facts.is_whole else f"; not all of it was read within {EXAMINE_S:.0f} s"
    yield good("database", f"{file or subject.config.bridge.url}{whole}")
    for name, detail, mend in facts.warnings:
        yield degraded(name, detail, mend)


def _look_at_file(home: Home, file: Path) -> Iterator[DoctorFinding]:
    log = Path(f"{file}-wal")
    try:
        size = log.stat().st_size
    except OSError:
        size = 0
    if size > _LARGE_LOG:
        readers = sorted(_readers(home, log))
        who = ", ".join(f"process {pid} ({name})" for pid, name in readers)
        yield degraded(
            "log",
            f"{log} has {in_words(size)}; read by {who or 'nobody that can be seen'}",
            f"End what reads so long: kill {readers[0][0]}" if readers else "autopoll restart",
        )
    holder = holder_of(file.with_name(f"{file.name}-poller.lock"))
    if holder is not None and not _is_of(home, holder):
        yield failed(
            "two homes",
            f"process {holder} of another home answers for {file}",
            "Take that home down, or name another file in [bridge] url of one of them.",
        )


def _trouble(error: AutopollError) -> str:
    """Return what an error is about, by the words of the driver, which has no codes for these."""
    words = error.what.lower()
    return next((name for name, known in _TROUBLES if known.search(words)), "database")


def _restore(home: Home) -> str:
    """Return the commands that put the newest backup in its place."""
    try:
        kept = sorted(home.backups.iterdir(), key=lambda path: path.stat().st_mtime)
    except OSError:
        kept = []
    name = quoted([str(kept[-1])]) if kept else "FILE"
    return f"Put a backup in its place: autopoll down; autopoll restore {name}; autopoll up"


def _readers(home: Home, log: Path) -> Iterator[tuple[int, str]]:
    """Yield (pid, name) of the processes that have the log open and are none of the home's."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            names = {str(each.readlink()) for each in (entry / "fd").iterdir()}
        except OSError:  # gone, or another user's
            continue
        reading = read_stat(int(entry.name))
        if str(log) in names and reading and not _is_of(home, reading.pid):
            yield reading.pid, reading.name


def _is_of(home: Home, pid: int) -> bool:
    """Tell whether a process is one of the home's."""
    mark = f"AUTOPOLL_SUPERVISED={home.supervisord_conf.parent}".encode()
    try:
        return mark in orphans.environment(pid)
    except OSError:
        return False
