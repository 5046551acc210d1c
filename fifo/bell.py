"""A one-byte wake-up: to give a process work is to ring its bell, a pipe with a known path."""

import os
from contextlib import suppress
from errno import ENXIO
from pathlib import Path

from fifo import pipe

_ROOM = 64 * 1024


class Bell:
    """The end that listens; makes the pipe in place of one that a dead listener left.

    Raises UnsafePipe when something else lies at the path, FolderError when it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with pipe.explained(path.parent):
            pipe.make(path)
            reader = pipe.open_end(path, pipe.READ_END)
            # We keep a write end ourselves: without any writer the pipe would report a hang-up
            # after the first ringer left, for ever, and the loop would spin on it.
            self._ends = pipe.Ends(reader, pipe.open_end(path, pipe.WRITE_END))
        self._inode = os.fstat(reader).st_ino
        self._closed = False

    def is_in_place(self) -> bool:
        """Tell whether ringers still find it, safe as it was made."""
        return pipe.intact(self.path, self._inode)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when it rings."""
        return self._ends.reader

    def read(self) -> bytes:
        """Return every byte that was rung since the last call; b"" when there is none."""
        try:
            return os.read(self._ends.reader, _ROOM)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close, and remove the pipe unless another listener has replaced it."""
        if not self._closed:
            self._closed = True
            with suppress(OSError):  # a folder gone read-only; the next listener replaces the pipe
                pipe.remove(self.path, self._inode)
            self._ends.close()


def ring(path: Path | str, kind: bytes = b"!") -> bool:
    """Ring, and tell whether someone listens; a full pipe counts, for its listener wakes anyway.

    Raises UnsafePipe when what lies at the path is not a bell.
    """
    try:
        descriptor = pipe.open_end(path, pipe.WRITE_END)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == ENXIO:
            return False
        raise
    try:
        os.write(descriptor, kind)
    except BlockingIOError:
        return True
    except BrokenPipeError:
        return False
    finally:
        os.close(descriptor)
    return True
