"""Where the gateway listens: a TCP address, or a socket in the home."""

import re

import msgspec

from autopoll.errors import UsageError

UNIX = "unix:"
_TCP = r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+|localhost)):(?P<port>\d{1,5})"
_MEND = 'Write it as "127.0.0.1:8765", "[::1]:8765" or "unix:var/run/gateway.sock".'


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Either `path`, seen from the home, or `host` (a number) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address; raise UsageError when it is none."""
        if text.startswith(UNIX):
            path = text.removeprefix(UNIX)
            if not path or not path.isprintable():
                raise UsageError(f"{text!r} names no socket", _MEND)
            return cls(path=path)
        match = re.fullmatch(_TCP, text)
        if match is None or not 1 <= int(match["port"]) <= 65535:
            raise UsageError(f"{text!r} is not an address", _MEND)
        import ipaddress  # here: most commands read the settings and need no address

        name = match["six"] or match["four"]
        try:
            host = "127.0.0.1" if name == "localhost" else str(ipaddress.ip_address(name))
        except ValueError:
            raise UsageError(f"{text!r} is not an address", _MEND) from None
        return cls(host=host, port=int(match["port"]))

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach it."""
        if self.path:
            return True
        import ipaddress

        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
