"""The servers that contenders need, out of the distribution's packages, on UNIX sockets.

Both are as durable as autopoll: what they have confirmed survives a power cut.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autopoll.errors import AutopollError
from bench.peers.apps import POSTGRESQL_FOLDER, POSTGRESQL_USER, REDIS_SOCKET
from bench.peers.child import finish, running, wait_until

_DEBIAN = Path("/usr/lib/postgresql")  # a folder of programs for each version, none on PATH
_ORDINARY = ("postgres", "nobody")  # whoever of them there is: root it refuses to run as


class NotInstalled(AutopollError):
    """A program or a library that a contender needs is not there."""


def program(name: str, package: str) -> str:
    """Return the path of a program; raise NotInstalled with the package that holds it."""
    debian = sorted(_DEBIAN.glob("*/bin"), key=lambda path: path.parent.name.zfill(4), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, debian)])
    found = shutil.which(name, path=path)
    if found is None:
        raise NotInstalled(f"{name} is not installed", f"apt-get install {package}")
    return found


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis in the folder, with each write on the disk before it is confirmed.

    Yields its name and version.
    """
    command = program("redis-server", "redis-server")
    path = folder / REDIS_SOCKET
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    with running([command, *options], folder) as process:
        wait_until(lambda: _accepts(path), process, command, folder)
        yield f"Redis {_version(command)}"


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run PostgreSQL on a new cluster in the folder; yields its name and version."""
    initdb, server, is_ready = (
        program(name, "postgresql") for name in ("initdb", "postgres", "pg_isready")
    )
    user = _ordinary_user()
    data = folder / POSTGRESQL_FOLDER
    data.mkdir()
    if user:
        shutil.chown(data, user)
    made = ("--username", POSTGRESQL_USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C")
    finish([initdb, "--pgdata", str(data), "--no-sync", *made], folder, user=user)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(data),
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
    }
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    command = [server, "-D", str(data), *options]
    # By QUIT it ends at once, and takes its shared memory with it.
    with running(command, folder, end=signal.SIGQUIT, user=user) as process:
        asked = [is_ready, "-q", "-h", str(data), "-U", POSTGRESQL_USER]
        wait_until(lambda: subprocess.run(asked).returncode == 0, process, server, folder)
        yield f"PostgreSQL {_version(server)}"


def _ordinary_user() -> str | None:
    """Return whom to run PostgreSQL as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    return next(name for name in _ORDINARY if name in {each.pw_name for each in pwd.getpwall()})


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _version(command: str) -> str:
    """Return the version in the first line of `--version`: "… v=7.0.15 …" or "… 15.18 (…)"."""
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    words = (word.removeprefix("v=") for word in shown.stdout.split())
    return next(word for word in words if word[:1].isdigit())
