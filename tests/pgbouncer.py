"""A PgBouncer before a PostgreSQL server, in which each transaction may have another session."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from postgres_server import SUPERUSER, PostgresServer

SETTINGS = """[databases]
* = host=127.0.0.1 port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 50
server_login_retry = 1
"""


class PgBouncer:
    """In transaction mode, with two sessions for all who come; used as a context manager."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "no pgbouncer: apt-get install pgbouncer"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        settings = folder / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(server=server.port, port=self.port, user=SUPERUSER))
        as_other = ["--user", "nobody"] if os.geteuid() == 0 else []  # root it refuses to be
        self._command = [program, "--quiet", *as_other, str(settings)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, self._process.communicate()
                assert time.monotonic() < end
                time.sleep(0.01)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
