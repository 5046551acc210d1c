"""TLS to a PostgreSQL server: a client that asks for it gets it, or no connection."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_calls import claimed, require_one_answer
from postgres_server import PostgresServer, distribution_binaries

from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeUnavailable

pytestmark = pytest.mark.long  # for what it needs

# Of OpenSSL, every version of which can sign for a time that is over by this command alone.
AUTHORITY = """[ca]
default_ca = here
[here]
database = index
new_certs_dir = .
serial = serial
policy = any
default_md = sha256
unique_subject = no
[any]
commonName = supplied
"""
YEARS = ("20200101000000Z", "20990101000000Z")
PAST = ("20200101000000Z", "20210101000000Z")


class Authority:
    """Signs certificates, in a folder."""

    def __init__(self, folder: Path, name: str = "root") -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "ca.cnf").write_text(AUTHORITY)
        (folder / "index").write_text("")
        (folder / "serial").write_text("01")
        self.certificate = folder / "root.crt"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9999", "-subj",
                      f"/CN={name}", "-keyout", "root.key", "-out", "root.crt")  # fmt: skip

    def sign(self, name: str, begins: str, ends: str) -> tuple[Path, Path]:
        """Return a certificate and its key."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout",
                      "server.key", "-out", "server.csr")  # fmt: skip
        self._openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "root.crt",
                      "-keyfile", "root.key", "-startdate", begins, "-enddate", ends, "-in",
                      "server.csr", "-out", "server.crt")  # fmt: skip
        return self.folder / "server.crt", self.folder / "server.key"

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    binaries = distribution_binaries()
    assert binaries, "the PostgreSQL of the wheel speaks no TLS: apt-get install postgresql"
    with PostgresServer(binaries, tcp=True) as started:
        yield started


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def serve(server: PostgresServer, certificate: Path, key: Path) -> None:
    """Have the server speak TLS under a certificate."""
    owner = server.data.stat()
    for source, target in ((certificate, "server.crt"), (key, "server.key")):
        shutil.copy(source, server.data / target)
        os.chown(server.data / target, owner.st_uid, owner.st_gid)
        (server.data / target).chmod(0o600)
    server.stop()
    server.start(ssl="on", log_connections="on")


@pytest.fixture
def url(server: PostgresServer, name: str, authority: Authority) -> str:
    """The URL by which a client asks for TLS and knows the authority."""
    return verifying(server, name, authority)


def verifying(server: PostgresServer, name: str, authority: Authority) -> str:
    given = f"sslmode=verify-full&sslrootcert={authority.certificate}"
    return f"postgresql://postgres@localhost:{server.port}/{name}?{given}"


def open_in_vain(server: PostgresServer, url: str) -> str:
    """Open a bridge that gets no connection, in plain text neither; return why."""
    before = server.log.stat().st_size
    with pytest.raises(BridgeUnavailable) as refused:
        PostgresBridge(url, BridgeLimits(), create=True)
    with server.log.open() as log:
        log.seek(before)
        assert "connection authorized" not in log.read()
    return str(refused.value)


def test_a_connection_that_is_to_be_encrypted_is(server, authority, url, open_bridge) -> None:
    serve(server, *authority.sign("localhost", *YEARS))
    bridge = open_bridge(url)
    require_one_answer(bridge, claimed(bridge))
    encrypted = bridge._db.rows("SELECT ssl FROM pg_stat_ssl WHERE pid=pg_backend_pid()")
    assert encrypted == [(True,)]


def test_a_certificate_of_another_authority_is_refused(server, name, authority, tmp_path) -> None:
    serve(server, *authority.sign("localhost", *YEARS))
    other = Authority(tmp_path / "other", "another root")
    assert "certificate verify failed" in open_in_vain(server, verifying(server, name, other))


def test_a_certificate_of_another_host_is_refused(server, authority, url) -> None:
    serve(server, *authority.sign("elsewhere", *YEARS))
    assert "does not match host name" in open_in_vain(server, url)


def test_a_certificate_that_has_expired_is_refused(server, authority, url) -> None:
    serve(server, *authority.sign("localhost", *PAST))
    assert "certificate has expired" in open_in_vain(server, url)
    assert "alert certificate expired" in server.log.read_text(), "for no other reason"


def test_a_server_without_tls_is_refused_by_who_asks_for_it(server, url) -> None:
    server.stop()
    server.start(ssl="off", log_connections="on")
    assert "server does not support SSL" in open_in_vain(server, url)


def test_a_server_that_takes_none_but_encrypted_connections_refuses_plain_text(
    server, authority
) -> None:
    serve(server, *authority.sign("localhost", *YEARS))
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    try:
        server.stop()
        server.start(ssl="on", log_connections="on")
        assert "no encryption" in open_in_vain(server, f"{server.tcp_url()}?sslmode=disable")
    finally:
        rules.write_text(before)
