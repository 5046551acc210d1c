"""The socket that the gateway listens on."""

import errno
import os
import socket
import stat
from pathlib import Path

from autopoll.errors import AlreadyRunning, ConfigError
from autopoll.home.address import Address
from autopoll.home.home import Home

BACKLOG = 512
_LONGEST = 107  # bytes of a socket's path that the kernel takes


def open_listener(home: Home, address: Address) -> socket.socket:
    """Return a socket that listens; a unix one is private (0600) from its first moment.

    Raises AlreadyRunning when another program listens there, ConfigError when nobody can.
    """
    if address.path:
        return _open_unix(home.root / address.path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # asyncio turns Nagle's delay off only where the protocol is named: 40 ms with each answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(str(address)) from error
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}", "Change gateway.listen."
        ) from error
    return listener


def _open_unix(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigError(
            f"socket path too long: {path}, at most {_LONGEST} bytes work",
            "Give a shorter gateway.listen.",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        before = os.umask(0o177)  # and no chmod afterwards, which would leave a moment open to all
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(str(path)) from error
        raise ConfigError(
            f"cannot listen on {path}: {error.strerror}", "Change gateway.listen."
        ) from error
    return listener


def _clear(path: Path) -> None:
    """Remove the socket that a dead gateway left; whatever else lies there stays, and is in use."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise ConfigError(f"{path} is no socket", "Remove it, or change gateway.listen.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its queue is full: somebody is there
            pass
    raise _taken(str(path))


def _taken(where: str) -> AlreadyRunning:
    return AlreadyRunning(
        f"another program listens on {where}", "Stop it, or change gateway.listen."
    )
