"""The socket on which askers reach the poller: private to this user, as the folder it lies in."""

import asyncio
import logging
import os
import resource
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from autopoll.process.poller_socket import short_address

MOST_CONNECTIONS = 1024
_BACKLOG = 1024
_OTHER_FILES = 512  # descriptors beside those of askers, and for those about to be accepted
_AT_ONCE = 64  # connections accepted in one turn of the loop
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_KINDS = {stat.S_IFREG: "a file", stat.S_IFLNK: "a symlink", stat.S_IFDIR: "a folder"}

log = logging.getLogger(__name__)


class AskerListener:
    """A listening socket on the running loop, made again when somebody took it away.

    What is no socket in its place is left alone and named in `trouble` until it is gone: askers
    write to the store meanwhile. So is what keeps it from accepting them. `on_accepted` is given
    each connection of this user or root, and tells whether there was room for it.
    """

    def __init__(self, path: Path, on_accepted: Callable[[socket.socket], bool]) -> None:
        self.trouble = ""
        self._refused = ""  # why an asker was not accepted since the last look
        self._path = path
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._inode = 0
        self._is_suspended = False
        _allow_files(2 * MOST_CONNECTIONS + _OTHER_FILES)  # a reading and a writing end for each
        self.look()

    def look(self) -> None:
        """See that askers find it; cheap enough for once a second."""
        refused, self._refused = self._refused, ""
        try:
            if not (self._listener and self._is_in_place()):
                self.close()
                self._open()
            elif self._is_suspended:
                self._listen()
            self._name(refused)
        except OSError as error:
            self._name(f"{self._path} cannot be listened on: {error.strerror or error}")

    def close(self) -> None:
        """Listen no more, and remove the socket unless it is another's; tolerated twice."""
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            if self._is_in_place():
                with suppress(OSError):  # the next poller removes it
                    self._path.unlink()

    def _open(self) -> None:
        """Raises OSError, also when something that is no socket is in the way."""
        with suppress(FileNotFoundError):
            mode = self._path.lstat().st_mode
            if not stat.S_ISSOCK(mode):
                kind = _KINDS.get(stat.S_IFMT(mode), "something else")
                raise OSError(f"it is {kind}, not a socket; remove it: rm -r {self._path}")
            self._path.unlink()  # a dead poller's: there is one poller per home
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            before = os.umask(0o177)  # and no chmod afterwards: there is no moment open to all
            try:
                with short_address(self._path) as address:
                    listener.bind(address)
            finally:
                os.umask(before)
            listener.listen(_BACKLOG)
            self._inode = self._path.lstat().st_ino
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._listen()

    def _listen(self) -> None:
        assert self._listener
        self._is_suspended = False
        self._loop.add_reader(self._listener, self._accept)

    def _is_in_place(self) -> bool:
        try:
            facts = self._path.lstat()
        except OSError:
            return False
        return stat.S_ISSOCK(facts.st_mode) and facts.st_ino == self._inode

    def _refuse(self, why: str) -> None:
        self._refused = f"askers write to the store: {why}"
        self._name(self._refused)

    def _name(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble

    def _accept(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                if not self._accept_one():
                    return
        except OSError as error:  # no descriptor is left: try again at the next look
            assert self._listener
            self._refuse(f"none can be accepted for now: {error.strerror}")
            self._loop.remove_reader(self._listener)
            self._is_suspended = True

    def _accept_one(self) -> bool:
        """Accept an asker, and tell whether there was one. Raises OSError."""
        assert self._listener
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        try:
            if (uid := peer_uid(connection)) not in (0, os.geteuid()):
                log.warning("user %d was refused on %s", uid, self._path)
                connection.close()
                return True
            connection.setblocking(False)
            if not self._on_accepted(connection):
                self._refuse(f"{MOST_CONNECTIONS} are connected")
        except OSError:
            connection.close()
            raise
        return True


def peer_uid(connection: socket.socket) -> int:
    """Return the user at the other end of a connection, as the kernel noted it."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return int(uid)


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
