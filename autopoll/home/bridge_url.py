"""Where a bridge is: a file of SQLite, or a PostgreSQL server, with what may be shown of it.

The url of a server is one of libpq (https://www.postgresql.org/docs/current/libpq-connect.html). It
may hold a password, so neither its text nor an error shows it whole.
"""

import re
from pathlib import Path

from autopoll.errors import ConfigError

_SQLITE = "sqlite:///"
# Not compiled beforehand: it costs every command, and most homes have a file.
_SERVER = (
    r"postgres(?:ql)?://"
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)"
    r"(?:/(?P<database>[^@/?#]*))?"
    r"(?:\?(?P<query>\w+=[^#&]*(?:&\w+=[^#&]*)*))?"
)
_HOST = r"(?:\[[\w:.%]*\]|[^:\[\]]*)(?::\d*)?"
# Also what is nearly the name of a secret; passfile is a path.
_HIDDEN = r"(?i)(?!passfile$)\w*(?:pass|pw|secret|client_key|server_key)\w*"
_NO_STORE = (
    "Use sqlite:///bridge.db (below the home), sqlite:////absolute/path/bridge.db, or "
    "postgresql://user@host/database."
)
_NO_SERVER = (
    "Write it as postgresql://user@host:5432/database or postgresql://?service=name; "
    "in names and passwords, write %40 for @, %2F for /, %3A for :, %3F for ?, %25 for %."
)


class BridgeUrl:
    """The url of a bridge; `str` and `repr` of it leave out what is secret, and nothing else.

    Raises ConfigError for what names neither a file nor a server.
    """

    def __init__(self, url: str) -> None:
        self.full = url
        self.is_server = url.startswith(("postgresql://", "postgres://"))
        self.has_password = False
        if self.is_server:
            self._shown = self._read_server(url)
            return
        self._shown = url
        self._path = url.removeprefix(_SQLITE)
        if self._path == url or not self._path or "\0" in url:
            scheme = re.match(r"[a-z+]{1,20}:/*", url)
            shown = f"{scheme[0]}…" if scheme else "without sqlite:/// or postgresql://"
            raise ConfigError(f"the bridge url ({shown}) names no store", _NO_STORE)

    def file(self, root: Path) -> Path | None:
        """Return the file that it names, a relative one below `root`; None for a server."""
        return None if self.is_server else root / self._path

    @property
    def is_relative(self) -> bool:
        """Whether it names a file by a path that is meant from the home."""
        return not self.is_server and not self._path.startswith("/")

    def with_password(self, password: str) -> "BridgeUrl":
        """Return the url of a server with a password that it lacks."""
        written = "".join(f"%{byte:02X}" for byte in password.encode())
        return BridgeUrl(f"{self.full}{'&' if '?' in self.full else '?'}password={written}")

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"<bridge {self._shown}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BridgeUrl) and self.full == other.full

    def __hash__(self) -> int:
        return hash(self.full)

    def _read_server(self, url: str) -> str:
        """Return what may be shown of the url of a server."""
        match = re.fullmatch(_SERVER, url)
        # Else libpq would refuse it by an error that shows what may be a part of the password.
        wrong = re.search(r"%(?![0-9a-fA-F]{2})|%00|[^!-~]", url)
        hosts = match["hosts"].split(",") if match else []
        if wrong or match is None or not all(re.fullmatch(_HOST, each) for each in hosts):
            raise ConfigError("the bridge url of a PostgreSQL server cannot be read", _NO_SERVER)
        named = [pair.partition("=") for pair in (match["query"] or "").split("&")]
        self.has_password = bool(match["password"]) or any(
            value and re.fullmatch(_HIDDEN, name) for name, _, value in named
        )
        user = f"{match['user']}@" if match["user"] else ""
        database = f"/{match['database']}" if match["database"] else ""
        query = "&".join("".join(pair) for pair in named if not re.fullmatch(_HIDDEN, pair[0]))
        return f"postgresql://{user}{match['hosts']}{database}{'?' * bool(query)}{query}"
