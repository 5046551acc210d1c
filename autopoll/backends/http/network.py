"""What the network needs of the environment and the settings, checked before it is used.

The libraries would report a bad certificate file or proxy without its name.
"""

import ipaddress
import os
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import SplitResult, urlsplit

from autopoll.errors import ConfigError
from autopoll.home.installation import library_command

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_UNSET = "Mend it where `autopoll up` is run, or unset it there."


def check_network(environ: Mapping[str, str]) -> None:
    """Raise ConfigError for a variable of certificates or proxies that cannot be used."""
    if path := environ.get("SSL_CERT_FILE"):
        _check_certificates(path)
    elif folders := environ.get("SSL_CERT_DIR"):
        _check_folders(folders)
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        if value := environ.get(name):
            _check_proxy(name, value)


def check_address(url: str, name: str) -> None:
    """Raise ConfigError, by the name of the setting, for what is no address of a service."""
    why = _why_not(url, ("http", "https"))
    if why:
        raise ConfigError(
            f"{name}: {_without_login(url)!r} {why}",
            "Give an address such as https://host:8000/v1.",
        )


def _check_certificates(path: str) -> None:
    try:
        # Without waiting, for it may be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"SSL_CERT_FILE: {path} cannot be read: {why}", _UNSET) from error
    if not regular:
        raise ConfigError(f"SSL_CERT_FILE: {path} is not a regular file", _UNSET)


def _check_folders(folders: str) -> None:
    if not any(os.path.isdir(each) for each in folders.split(os.pathsep)):  # noqa: PTH112
        raise ConfigError(f"SSL_CERT_DIR: {folders} is no folder", _UNSET)


def _check_proxy(name: str, value: str) -> None:
    url = value if "://" in value else f"http://{value}"
    why = _why_not(url, ("http", "https", "socks5", "socks5h"))
    if not why and url.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(
            f"{name}: a SOCKS proxy needs a library", f"Run: {library_command('socksio')}"
        )
    if why:
        raise ConfigError(f"{name}: {_without_login(value)!r} {why}", _UNSET)


def _why_not(url: str, schemes: tuple[str, ...]) -> str:
    """Return why a text is no address with one of the schemes; empty when it is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its words may hold a part of a password
        return "is no address, or its port is no number of one"
    if parts.scheme not in schemes:
        return f"does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not host:
        return "names no host"
    return "" if _is_host(host, parts) else "names a host that cannot be one"


def _is_host(host: str, parts: SplitResult) -> bool:
    try:
        if ":" in host or parts.netloc.rpartition("@")[2].startswith("["):
            ipaddress.ip_address(host.partition("%")[0])
        host.encode("idna")
    except (ValueError, UnicodeError):
        return False
    return not any(char.isspace() or not char.isprintable() or char in "\\[]" for char in host)


def _without_login(url: str) -> str:
    """Return an address without the name and password that it may hold."""
    before, at, after = url.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    shown = f"{scheme}{slashes}{after}" if slashes else after
    return (shown if at else url)[:200]
