"""Errors a person can act on: each says what happened and where, and how to mend it."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; other programs rely on them."""

    OK = 0
    FAILED = 1  # degraded, or the question failed
    DOWN = 2  # down, or not found
    UNREACHABLE = 3  # supervisord unreachable or hung
    USAGE = 4  # usage or configuration
    TIMED_OUT = 5
    BAD_CONFIG = 78  # a role's exit (EX_CONFIG) that supervisord does not restart
    INTERRUPTED = 130  # as shells report a death by SIGINT
    READER_GONE = 141  # as shells report a death by SIGPIPE


class AutopollError(Exception):
    """The root of every error that is shown to a person; `mend` says what to do about it."""

    exit_code = Exit.FAILED

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  {self.mend}" if self.mend else self.what


class UsageError(AutopollError):
    """The caller gave something that cannot be taken."""

    exit_code = Exit.USAGE


class ConfigError(AutopollError):
    """The settings, an override of them, or what they point at cannot be used."""

    exit_code = Exit.USAGE


class Untrusted(ConfigError):
    """A home, or what it would run, that somebody else can change."""


class NotFound(AutopollError):
    """A home, conversation, message, shard or process that is not there."""

    exit_code = Exit.DOWN


class Down(AutopollError):
    """The home is not running, or a part of it that is needed is not."""

    exit_code = Exit.DOWN


class DoesNotStart(Down):
    """A process crashes whenever it is started, or refuses its settings."""


class AlreadyRunning(AutopollError):
    """A second process wants what one holder alone may have: a home, a database, a name."""


class SupervisorError(AutopollError):
    """supervisord is not there, refuses, or (`hung`) does not answer, or (`stopping`) ends."""

    exit_code = Exit.UNREACHABLE

    def __init__(
        self, what: str, mend: str = "", *, hung: bool = False, stopping: bool = False
    ) -> None:
        super().__init__(what, mend)
        self.hung = hung
        self.stopping = stopping
        if stopping:
            self.exit_code = Exit.DOWN


class TimedOut(AutopollError):
    """The wait ended before the thing waited for came."""

    exit_code = Exit.TIMED_OUT


class AccessDenied(AutopollError):
    """A token that is wrong, expired or revoked; the text never holds the token."""

    exit_code = Exit.USAGE


class Interrupted(AutopollError):
    """Somebody pressed Ctrl-C; the text says what state things are in."""

    exit_code = Exit.INTERRUPTED


class RateLimited(AutopollError):
    """The session has used up its budget for now; `wait_ms` says when it has room again."""

    def __init__(self, what: str, mend: str = "", *, wait_ms: int) -> None:
        super().__init__(what, mend)
        self.wait_ms = wait_ms


class KeyReused(UsageError):
    """A key that stands for one message was given with another."""


class AlreadySettled(AutopollError):
    """A question that cannot be cancelled any more."""


class BadQuery(AutopollError):
    """A message that asks to be answered but cannot be read as a question."""


class BridgeError(AutopollError):
    """The bridge's store cannot be used: missing, unreadable, corrupt, or of a newer version."""

    exit_code = Exit.DOWN


class BridgeBusy(BridgeError):
    """Another program holds the database; it may pass, so the caller may try again."""


class BridgeUnavailable(BridgeError):
    """The store cannot be reached; whether what was being committed is stored, nobody knows."""


class RowRefused(BridgeError):
    """The store does not take this one row: a rule of its schema, or of another program's."""


class BridgeFull(BridgeError):
    """No room to write; nothing was changed and reading still works."""
