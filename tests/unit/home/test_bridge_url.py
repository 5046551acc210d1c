"""What a url of a bridge names, and that it shows no password."""

import time
from pathlib import Path

import pytest

from autopoll.errors import ConfigError
from autopoll.home.bridge_url import BridgeUrl

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/bridge.db", "/home/x/var/bridge.db"),
        ("sqlite:////data/bridge.db", "/data/bridge.db"),
        ("sqlite:///a b%20?c", "/home/x/a b%20?c"),
    ],
)
def test_a_file_is_meant_from_the_home(url: str, path: str) -> None:
    found = BridgeUrl(url)
    assert (found.file(Path("/home/x")), found.is_server, str(found)) == (Path(path), False, url)


@pytest.mark.parametrize(
    ("url", "shown", "has_password"),
    [
        ("postgresql://", "postgresql://", False),
        ("postgres://db", "postgresql://db", False),
        ("postgresql://?service=x", "postgresql://?service=x", False),
        ("postgresql:///name?host=/run/pg", "postgresql:///name?host=/run/pg", False),
        ("postgresql://%2Frun%2Fpg/name", "postgresql://%2Frun%2Fpg/name", False),
        ("postgresql://me@[::1]:5432/name", "postgresql://me@[::1]:5432/name", False),
        ("postgresql://a:1,b:2,[::1]/n", "postgresql://a:1,b:2,[::1]/n", False),
        (f"postgresql://me:{PASSWORD}@db:1/n", "postgresql://me@db:1/n", True),
        ("postgresql://me:@db", "postgresql://me@db", False),
        (f"postgresql://db?password={PASSWORD}", "postgresql://db", True),
        (f"postgresql://db?sslpassword={PASSWORD}&user=me", "postgresql://db?user=me", True),
        (f"postgresql://db?oauth_client_secret={PASSWORD}", "postgresql://db", True),
        (f"postgresql://db?scram_client_key={PASSWORD}", "postgresql://db", True),
        (f"postgresql://db?scram_server_key={PASSWORD}", "postgresql://db", True),
        (f"postgresql://db?Passwd={PASSWORD}&PGPASS={PASSWORD}", "postgresql://db", True),
        (
            f"postgresql://db?passfile=/x&password={PASSWORD}&sslmode=verify-full&sslkey=/k",
            "postgresql://db?passfile=/x&sslmode=verify-full&sslkey=/k",
            True,
        ),
    ],
)
def test_a_server_is_shown_without_what_is_secret(url: str, shown: str, has_password: bool) -> None:
    found = BridgeUrl(url)
    assert (str(found), f"{found}", found.has_password) == (shown, shown, has_password)
    assert repr(found) == f"<bridge {shown}>"
    assert (found.full, found.file(Path("/")), found.is_server) == (url, None, True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bridge.db",
        "sqlite:///",
        "sqlite://bridge.db",
        "sqlite:///\0",
        f"postgre://me:{PASSWORD}@db/n",
        f"mysql://me:{PASSWORD}@db/n",
        f"host=db password={PASSWORD}",
        f"{PASSWORD}",
        f"postgresql://me:{PASSWORD}@home@db/n",
        f"postgresql://me:{PASSWORD}/x@db/n",
        f"postgresql://me:1/{PASSWORD}@db/n",
        f"postgresql://me:1?{PASSWORD}@db/n",
        f"postgresql://me:{PASSWORD}#x@db/n",
        f"postgresql://me:{PASSWORD}%@db/n",
        f"postgresql://me:{PASSWORD}%zz@db/n",
        f"postgresql://me:{PASSWORD}%00@db/n",
        f"postgresql://me:{PASSWORD} x@db/n",
        f"postgresql://me:{PASSWORD}\n@db/n",
        f"postgresql://me:{PASSWORD}é@db/n",
        f"postgresql://db?{PASSWORD}",
        f"postgresql://db:{PASSWORD}",
    ],
)
def test_what_names_no_store_is_refused_with_the_forms_and_without_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BridgeUrl(url)
    assert "postgresql://user@host" in refused.value.mend
    assert PASSWORD not in str(refused.value)


def test_a_long_url_is_read_in_a_moment() -> None:
    began = time.monotonic()
    for url in ("postgresql://" + "a:1," * 20_000 + "\n", "postgresql://x?" + "a=1&" * 20_000):
        with pytest.raises(ConfigError):
            BridgeUrl(url)
    assert time.monotonic() - began < 2


def test_a_password_is_put_into_a_url_whatever_it_holds() -> None:
    written = "".join(f"%{byte:02X}" for byte in "a@ß/%&".encode())
    whole = BridgeUrl("postgresql://db").with_password("a@ß/%&")
    assert whole.full == f"postgresql://db?password={written}"
    assert whole.has_password and "password" not in str(whole)
    whole = BridgeUrl("postgresql://?service=x").with_password("a")
    assert whole.full == "postgresql://?service=x&password=%61"


@pytest.mark.parametrize(
    ("url", "is_relative"),
    [
        ("sqlite:///var/bridge.db", True),
        ("sqlite:///./x", True),
        ("sqlite:////srv/bridge.db", False),
        ("postgresql://db/x", False),
    ],
)
def test_only_a_path_of_three_slashes_is_meant_from_the_home(url: str, is_relative: bool) -> None:
    assert BridgeUrl(url).is_relative == is_relative
