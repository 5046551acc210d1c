"""The pair in its folder: make it, publish it, open it, take it away.

One pair serves one client, once. The server's steps keep one rule: as long as an endpoint can be
read, the pipes beside it are its own. So it is withdrawn before the pipes are touched, and
published after they are there.
"""

import os
from errno import ENXIO
from pathlib import Path

from fifo import endpoint, pipe
from fifo.endpoint import Endpoint
from fifo.exceptions import FifoError, UnsafePipe
from fifo.pipe import Ends

REQUESTS = "requests.fifo"
REPLIES = "replies.fifo"


def create(folder: Path, epoch: int, versions: list[int]) -> tuple[Endpoint, Ends]:
    """Make and publish a fresh pair; return it with the server's ends.

    Raises UnsafePipe or OSError.
    """
    requests, replies = folder / REQUESTS, folder / REPLIES
    endpoint.withdraw(folder)
    pipe.make(requests)
    pipe.make(replies)
    # Our write end is there before any client is, so that a client sees the hang-up even if we
    # die before WELCOME. But it opens only where someone reads: we do, for a moment.
    stand_in = pipe.open_end(replies, pipe.READ_END)
    try:
        ends = pipe.open_ends(requests, replies)
    finally:
        os.close(stand_in)
    try:
        published = endpoint.ours(
            epoch=epoch,
            versions=versions,
            requests_inode=os.fstat(ends.reader).st_ino,
            replies_inode=os.fstat(ends.writer).st_ino,
        )
        endpoint.publish(folder, published)
    except OSError:
        ends.close()
        raise
    return published, ends


def intact(folder: Path, published: Endpoint) -> bool:
    """Tell whether a client could still come in by what lies in the folder."""
    try:
        return (
            endpoint.read(folder) == published
            and pipe.intact(folder / REQUESTS, published.requests_inode)
            and pipe.intact(folder / REPLIES, published.replies_inode)
        )
    except (FifoError, OSError):
        return False


def remove(folder: Path, published: Endpoint) -> None:
    """Take the pair away, and nothing that has come in its place; raise OSError."""
    endpoint.withdraw(folder)
    pipe.remove(folder / REQUESTS, published.requests_inode)
    pipe.remove(folder / REPLIES, published.replies_inode)


def join(folder: Path, published: Endpoint) -> Ends | None:
    """Return the client's ends, or None when the pair is gone or going.

    Raises UnsafePipe or OSError.
    """
    inodes = published.replies_inode, published.requests_inode
    try:
        return pipe.open_ends(folder / REPLIES, folder / REQUESTS, inodes)
    except (OSError, UnsafePipe) as error:
        if _going(folder, published, error):
            return None
        raise


def knock(folder: Path, published: Endpoint) -> None:
    """Make the server notice that this pair's client is gone; raise UnsafePipe or OSError.

    A pair that was used is never written to again, for half a frame may be in it. Its server sees
    the hang-up, unless the client died before it had opened the pipe. To open and close it gives
    a hang-up in any case.
    """
    try:
        inode = published.requests_inode
        os.close(pipe.open_end(folder / REQUESTS, pipe.WRITE_END, inode))
    except (OSError, UnsafePipe) as error:
        if not _going(folder, published, error):
            raise


def _going(folder: Path, published: Endpoint, error: OSError | UnsafePipe) -> bool:
    """Tell whether the error only says that the server is making a new pair, or leaves."""
    if isinstance(error, UnsafePipe):
        # Pipes change only while no endpoint can be read: if it still can, this one is foreign.
        return endpoint.read(folder) != published
    return isinstance(error, FileNotFoundError) or error.errno == ENXIO
