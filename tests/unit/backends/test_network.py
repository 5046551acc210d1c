"""Certificates, proxies and addresses that cannot be used are named, with what to mend."""

from pathlib import Path

import pytest

from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.backends.http import vendor_library
from autopoll.backends.http.network import check_address, check_network
from autopoll.errors import ConfigError


def refusal(variable: str, value: str) -> str:
    with pytest.raises(ConfigError) as refused:
        check_network({variable: value})
    assert refused.value.mend
    return refused.value.what


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("http://", "names no host"),
        ("ftp://host", "does not begin with http://"),
        ("http://[::1", "is no address"),
        ("http://host:99999", "is no address, or its port"),
        ("http://[x]", "is no address"),
        ("http://a b", "names a host that cannot be one"),
        (" ", "names a host that cannot be one"),
        ("socks5://host:1", "needs a library"),
    ],
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used_is_named(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autopoll.backends.http.network.find_spec", lambda _: None)
    said = refusal(name, value)
    assert said.startswith(f"{name}: ") and why in said


@pytest.mark.parametrize(
    "value", ["http://me:pa/ss@host", "me:pa-ss@[host", "http://me:pass@host:x", "ftp://me:pass@h"]
)
def test_the_password_of_a_proxy_is_never_shown(value: str) -> None:
    said = refusal("HTTPS_PROXY", value)
    assert "pa" not in said.replace("path", "")


@pytest.mark.parametrize(
    "value", ["host", "host:3128", "http://me:pass@host:3128", "https://[::1]:1"]
)
def test_a_proxy_that_can_be_used_is_left_alone(value: str) -> None:
    check_network({"HTTP_PROXY": value, "http_proxy": "", "NO_PROXY": "[::1,a b,*"})


def test_certificates_that_are_not_there_are_named_by_variable_and_path(tmp_path: Path) -> None:
    missing, folder = tmp_path / "missing.pem", tmp_path / "folder"
    folder.mkdir()
    said = refusal("SSL_CERT_FILE", str(missing))
    assert said == f"SSL_CERT_FILE: {missing} cannot be read: No such file or directory"
    assert "is not a regular file" in refusal("SSL_CERT_FILE", str(folder))
    assert refusal("SSL_CERT_DIR", str(missing)) == f"SSL_CERT_DIR: {missing} is no folder"
    check_network({"SSL_CERT_DIR": f"{missing}:{folder}"})


def test_a_file_that_holds_no_certificate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "notes.pem"))
    vendor_library._certificates.cache_clear()
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: .*/notes\.pem cannot be used"):
        vendor_library._certificates()


@pytest.mark.parametrize(
    "url",
    ["foo", "ftp://host", "http://", "http://[::1", "http://h:x", "http://a b/", "http://a\\b/",
     "http://..", f"http://{'a' * 300}/", "http://ex\u2028ample/"],
)  # fmt: skip
def test_an_address_that_is_none_is_named_by_its_setting(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^SETTING: "):
        check_address(url, "SETTING")


@pytest.mark.parametrize("url", ["http://localhost:11434/v1", "https://[::1]:8/", "http://bücher/"])
def test_an_address_is_left_alone(url: str) -> None:
    check_address(url, "SETTING")


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_a_backend_is_not_made_with_what_cannot_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(**options: object) -> None:
        given = {"model": "m", "base_url": "http://127.0.0.1:9", **options}
        open_backend(name, Setting(shard="main", root=tmp_path, context=[], options=given))

    opened()
    with pytest.raises(ConfigError, match=r"shards\.main\.options\.body holds what JSON cannot"):
        opened(body={"temperature": float("nan")})
    with pytest.raises(ConfigError, match=r"shards\.main\.options\.base_url: "):
        opened(base_url="http://h:99999/")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: /nowhere\.pem cannot be read"):
        opened()
