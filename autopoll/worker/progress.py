"""What a worker reports of a request while its backend works on it."""

import asyncio

from autopoll.process.heartbeat_writer import Heart
from autopoll.request import Progress, write
from autopoll.text import is_half
from fifo.server_end import ServerEnd

TOGETHER_S = 0.05  # what comes within it is sent together, in one frame
_BEGUN = write(Progress())
LARGEST = 1024 * 1024  # characters of one answer that are sent ahead; the answer itself comes whole


class Reporter:
    """The `Report` of one request: into the heartbeat, and down the pipe to the poller."""

    def __init__(self, heart: Heart, server: ServerEnd, request_id: int) -> None:
        self._heart = heart
        self._server = server
        self._request_id = request_id
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._news = False
        self._note = ""
        self._pieces: list[str] = []
        self._left = LARGEST

    def begun(self) -> None:
        """Report that work has begun; the heartbeat shows it already."""
        self._server.progress(self._request_id, _BEGUN)

    def __call__(self, note: str) -> None:
        """Report in a few words what is being done; of many notes only the latest."""
        self._note = note
        self._soon()

    def piece(self, text: str) -> None:
        """Report the next piece of the answer's text."""
        if self._left > 0:
            self._pieces.append(text[: self._left])
            self._left -= len(text)
        self._soon()

    def close(self) -> None:
        """Report nothing more: what is left stands in the answer."""
        if self._timer is not None:
            self._timer.cancel()

    def _soon(self) -> None:
        self._news = True
        if self._timer is None:
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        if self._news:
            piece = "".join(self._pieces)
            self._pieces.clear()
            if is_half(piece[-1:]):  # its other half may be what the next piece begins with
                self._pieces.append(piece[-1])
                piece = piece[:-1]
            progress = Progress(text=self._note, piece=piece)
            self._news, self._note = False, ""
            self._send(progress)
            self._timer = self._loop.call_later(TOGETHER_S, self._flush)

    def _send(self, progress: Progress) -> None:
        self._heart.progressed()
        self._server.progress(self._request_id, write(progress))
