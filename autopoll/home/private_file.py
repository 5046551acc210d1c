"""A secret in a file of its own, which nobody else may read."""

import errno
import os
import stat
from pathlib import Path

from autopoll.errors import ConfigError

_LARGEST = 65_536  # bytes; who expects one word refuses several lines anyway


def read_text(path: Path, option: str, secret: str) -> str:
    """Return the text of the file that `option` names as one with a secret, such as "key".

    Raises ConfigError when it is missing, a symlink, somebody else's or open to others.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not hold us
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        link = isinstance(error, OSError) and error.errno == errno.ELOOP
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{option}: {path} {'is a symbolic link' if link else f'cannot be read: {why}'}",
            f"Name a file of your own that holds the {secret}, mode 0600.",
        ) from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"{option}: {path} is not a regular file")
        if facts.st_uid != os.geteuid():
            raise ConfigError(
                f"{option}: {path} belongs to user {facts.st_uid}, not to you ({os.geteuid()})",
                "Make it your own.",
            )
        if facts.st_mode & 0o077:
            raise ConfigError(
                f"{option}: {path} is open to others (mode {stat.S_IMODE(facts.st_mode):04o})",
                f"Run: chmod 600 '{path}' (and renew the {secret}: others may have read it)",
            )
        return os.read(descriptor, _LARGEST).decode("utf-8-sig", "replace")
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
