"""Errors of the pipe pair: each says what happened and where, and how to mend it."""


class FifoError(Exception):
    """The root: `what` happened, and how to `mend` it."""

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  {self.mend}" if self.mend else self.what


class UnsafePipe(FifoError):
    """What lies at a path is not what we put there, or others could reach it."""


class FolderError(FifoError):
    """A file of the pair cannot be written or read: no room, no permission, no folder."""


class AlreadyHeld(FifoError):
    """Another process, `pid`, holds this end of the pair."""

    def __init__(self, what: str, mend: str = "", *, pid: int) -> None:
        super().__init__(what, mend)
        self.pid = pid


class NotConnected(FifoError):
    """There is no peer to send to."""


class NoCredit(FifoError):
    """The server takes no more for now, or too much already waits for the pipe."""


class TooLarge(FifoError):
    """A payload over what this end or the peer takes; nothing of it was written."""


class ProtocolError(FifoError):
    """A frame or a move that the protocol does not know."""


class LocalFault(ProtocolError):
    """Our own program asked for what the protocol forbids; nothing was written."""


class RemoteFault(ProtocolError):
    """The peer sent what the protocol forbids; the link is closed and the pair rebuilt."""
