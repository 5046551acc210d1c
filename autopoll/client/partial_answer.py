"""An answer that is still being written, read piece by piece by whoever waits for it."""

import codecs
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from autopoll.home.home import Home

_READ = 64 * 1024
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_decoder = codecs.getincrementaldecoder("utf-8")


class AnswerPiece(msgspec.Struct, frozen=True, kw_only=True):
    """The next part of an answer; with `anew`, the first of an attempt after one that failed."""

    message_id: int
    attempt: int
    text: str
    anew: bool


OnPiece = Callable[[AnswerPiece], None]


class PieceReader:
    """Reads the pieces of one question's answer as they come, and passes them on."""

    def __init__(self, home: Home, message_id: int, on_piece: OnPiece) -> None:
        self._home = home
        self._message_id = message_id
        self._on_piece = on_piece
        # Held open, so that a later file of the same name is never taken for it.
        self._file: int | None = None
        self._path: Path | None = None
        self._decoder = _decoder("replace")
        self._passed = self._anew = False

    def look(self, attempt: int) -> None:
        """Pass on what has come of an attempt since the last look."""
        self._open(self._home.partial(self._message_id, attempt))
        if self._file is None:
            return
        data = b""
        while part := os.read(self._file, _READ):
            data += part
        text = self._decoder.decode(data)
        if text:
            anew, self._anew, self._passed = self._anew, False, True
            self._on_piece(
                AnswerPiece(message_id=self._message_id, attempt=attempt, text=text, anew=anew)
            )

    def close(self) -> None:
        """Close the file; tolerated twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, path: Path) -> None:
        """Open the file of an attempt, unless it is open already or no regular file."""
        if path != self._path:
            self.close()
            self._path = path
        try:
            file = os.open(path, _READING)
        except OSError:  # not begun, or over
            return
        known = self._file is not None and os.path.sameopenfile(file, self._file)
        if known or not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
        else:
            self.close()
            self._file, self._decoder, self._anew = file, _decoder("replace"), self._passed
