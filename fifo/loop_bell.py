"""A bell on an asyncio loop. Nothing may depend on it: its owner also looks by itself."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fifo.bell import Bell
from fifo.exceptions import FifoError

log = logging.getLogger(__name__)


class LoopBell:
    """A bell on the running loop, put back when somebody took it away.

    What is foreign in its place is left alone and named in `trouble` until it is gone.
    """

    def __init__(self, path: Path, on_ring: Callable[[], None]) -> None:
        self.trouble = ""
        self._path = path
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._bell: Bell | None = None
        self.look()

    def look(self) -> None:
        """See that it can be rung; cheap enough for once a second."""
        try:
            if self._bell and self._bell.is_in_place():
                return
            self.close()
            self._bell = made = Bell(self._path)
        except (FifoError, OSError) as error:
            if self.trouble != (trouble := str(error).splitlines()[0]):
                self.trouble = trouble
                log.warning("the bell cannot be rung: %s", error)
            return
        self.trouble = ""
        self._loop.add_reader(made.fileno(), lambda: self._on_ring() if made.read() else None)

    def close(self) -> None:
        """Take it away; tolerated twice."""
        if self._bell:
            self._loop.remove_reader(self._bell.fileno())
            self._bell.close()
            self._bell = None
