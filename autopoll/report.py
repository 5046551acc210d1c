"""What a worker tells of a request while its backend is at it."""

import msgspec

from autopoll.process.heartbeat import Heart
from autopoll.request import Progress
from fifo.link import Server


class Reporter:
    """The `Report` of one request: into the heartbeat, and down the pipe to the poller."""

    def __init__(self, heart: Heart, server: Server, request_id: int) -> None:
        self._heart = heart
        self._server = server
        self._request_id = request_id

    def __call__(self, note: str) -> None:
        """Tell in a few words what is being done."""
        self._tell(Progress(text=note))

    def piece(self, text: str) -> None:
        """Tell the next piece of the answer's text."""
        self._tell(Progress(piece=text))

    def _tell(self, progress: Progress) -> None:
        self._heart.progressed()
        self._server.progress(self._request_id, msgspec.msgpack.encode(progress))
