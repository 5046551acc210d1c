"""The tokens of the home's own sessions: one private file, written whole or not at all."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from autopoll.errors import ConfigError, NotFound
from autopoll.home import files
from autopoll.home.file_stamp import FileStamp
from autopoll.home.home import Home
from autopoll.home.lock import hold_in_turn

VERSION = 1
LOCK_WAIT_S = 10.0
_LARGEST = 16 * 1024 * 1024


class Credentials(msgspec.Struct, kw_only=True):
    """What the file holds: the conversation of each shard, and tokens by session."""

    version: int = VERSION
    shards: dict[str, str] = {}
    tokens: dict[str, dict[str, str]] = {}

    def token(self, conversation: str, session: str) -> str:
        """Return a kept token; raise NotFound."""
        try:
            return self.tokens[conversation][session]
        except KeyError:
            raise NotFound(
                f"this home keeps no token for session {session} of {conversation}",
                "Give one with --token-file FILE or in AUTOPOLL_TOKEN.",
            ) from None


def read(home: Home) -> Credentials:
    """Return the credentials, empty ones when there is no file yet.

    Raises ConfigError when the file is a symlink, somebody else's, readable by others or garbled.
    """
    path = home.credentials
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Credentials()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError(
                f"{path} is a symbolic link", "Put the file itself there, or remove the link."
            ) from error
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", "Run as the owner of the home."
        ) from error
    try:
        facts = os.fstat(descriptor)
        _check_private(path, facts)
        content = os.read(descriptor, min(facts.st_size, _LARGEST))  # it asks for as much memory
    finally:
        os.close(descriptor)
    try:
        credentials = msgspec.json.decode(content, type=Credentials)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is garbled: {error}",
            f"Move it away and run: autopoll init '{home.root}' (it makes new conversations)",
        ) from error
    if credentials.version != VERSION:
        raise ConfigError(
            f"{path} is of version {credentials.version}, this autopoll reads {VERSION}",
            "Use the autopoll that wrote it.",
        )
    return credentials


class CredentialsCache:
    """The credentials of a home for a program that asks often: read again only after a change."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stamp: FileStamp | None = None
        self._last = Credentials()

    def read(self) -> Credentials:
        """Return them, not to be changed; raises what the function `read` does."""
        try:
            facts = os.lstat(self._home.credentials)
        except OSError:
            return read(self._home)  # it says what is wrong
        stamp = FileStamp.of(facts)  # another one also for a new owner or mode
        if stamp != self._stamp:
            self._last = read(self._home)
            self._stamp = stamp  # taken before: what changed meanwhile is read the next time
        return self._last


@contextmanager
def edit(home: Home) -> Iterator[Credentials]:
    """Lend the credentials to one writer at a time and keep what it made of them.

    Nothing is written when the block raises or changes nothing. Raises AlreadyRunning when another
    writer does not finish.
    """
    # It is only ever held for a few milliseconds, so waiting for it is right.
    lock, what = home.locks / "credentials", "a command that writes credentials"
    with hold_in_turn(lock, what, LOCK_WAIT_S):
        credentials = read(home)
        before = msgspec.json.encode(credentials)
        yield credentials
        after = msgspec.json.encode(credentials)
        if after != before:
            files.put(home.credentials, after, durable=True)


def _check_private(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path} is not a regular file", "Remove it and run: autopoll init")
    if facts.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to user {facts.st_uid}, not to you ({os.geteuid()})",
            "Run as the owner of the home.",
        )
    if facts.st_mode & 0o077:
        raise ConfigError(
            f"{path} is open to others (mode {stat.S_IMODE(facts.st_mode):04o})",
            f"Run: chmod 600 '{path}' (and rotate its tokens: others may have read them)",
        )
