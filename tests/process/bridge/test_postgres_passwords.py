"""The password of a server: where libpq finds it, and that no error and no log shows it."""

import logging
import traceback

import pytest
from postgres_calls import claimed

from autopoll.bridge.connect import open_bridge as connect
from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import AutopollError
from autopoll.home.bridge_url import BridgeUrl

SECRET = "tulip-in-the-snow"


@pytest.fixture
def role(server, name) -> str:
    """A role that is asked for its password, named as its database."""
    server.run_sql(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{SECRET}'")
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    server.stop()
    server.start()
    return name


@pytest.mark.parametrize("wrong", [SECRET[::-1], f"{SECRET}%20"])
def test_a_wrong_password_is_not_shown(server, name, role, wrong: str, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    url = server.tcp_url(name).replace("postgres@", f"{role}:{wrong}@")
    with pytest.raises(AutopollError, match="password authentication failed") as refused:
        PostgresBridge(url, BridgeLimits(), create=True)
    said = "".join(traceback.format_exception(refused.value)) + caplog.text
    assert wrong.removesuffix("%20") not in said


def test_a_password_is_not_shown_when_the_server_goes(
    server, name, role, open_bridge, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    bridge = open_bridge(server.tcp_url(name).replace("postgres@", f"{role}:{SECRET}@"))
    claimed(bridge)
    server.stop("immediate")
    said = []
    for _ in range(2):
        with pytest.raises(AutopollError) as refused:
            bridge.overview.counts()
        said += traceback.format_exception(refused.value)
    server.start()
    assert "was closed" in caplog.text
    assert SECRET not in "".join(said) + caplog.text


def test_a_password_is_found_in_the_file_of_a_user(
    server, role, open_bridge, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    passwords = tmp_path / ".pgpass"
    passwords.write_text(f"127.0.0.1:{server.port}:{role}:{role}:{SECRET}\n")
    passwords.chmod(0o600)
    url = server.tcp_url(role).replace("postgres@", f"{role}@")
    claimed(open_bridge(url))
    passwords.chmod(0o644)  # libpq takes none that others can read
    with pytest.raises(AutopollError, match="no password supplied"):
        PostgresBridge(url, BridgeLimits())


@pytest.mark.parametrize("by", ["url", "PGSERVICE"])
def test_a_service_is_found_in_the_file_of_a_user(
    server, role, open_bridge, tmp_path, monkeypatch, by: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pg_service.conf").write_text(
        f"[agents]\nhost=127.0.0.1\nport={server.port}\ndbname={role}\nuser={role}\n"
        f"password={SECRET}\napplication_name=by-service\n"
    )
    if by == "PGSERVICE":
        monkeypatch.setenv(by, "agents")
    bridge = open_bridge("postgresql://?service=agents" if by == "url" else "postgresql://")
    claimed(bridge)
    assert bridge._db.rows("SELECT current_user, current_setting('application_name')") == [
        (role, "by-service")
    ]


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:{}%zz@h/d", "postgresql://me:{}@h:x/d", "postgresql://me:{}@[::1/d",
     "postgresql://me:a {}@h/d", "postgresql://h/d?password={}&nonsense=1",
     "postgresql://me:{}@127.0.0.1:1/d?sslmode=nonsense", "postgresql://me:{}@h/d?service=none"],
)  # fmt: skip
def test_a_password_is_not_shown_of_a_url_that_cannot_be_used(url: str, tmp_path) -> None:
    with pytest.raises(AutopollError) as refused:
        connect(BridgeUrl(url.format(SECRET)), tmp_path, BridgeLimits())
    assert SECRET not in "".join(traceback.format_exception(refused.value))
