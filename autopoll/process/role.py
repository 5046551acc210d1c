"""What poller, worker, watchdog and gateway do alike: start alone, wait, and end when asked to."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autopoll.home import log_files
from autopoll.home.home import Home
from autopoll.home.lock import hold
from autopoll.process import signals
from autopoll.process.lifeline import Lifeline


@contextmanager
def alone(home: Home, name: str) -> Iterator[None]:
    """Be the only process of this name for the block, with a log file of this name.

    Signals wait until `end_by` lets them in. Raises AlreadyRunning.
    """
    signals.hold_back()
    log_files.setup(home.log, name)
    with hold(home.locks / f"{name}.lock", name):
        yield


def end_by(stop: Callable[[], None], on_orphaned: Callable[[], None] | None = None) -> None:
    """Call `stop` at TERM and INT, and `on_orphaned`, or `stop`, when supervisord is gone.

    Lets in the signals that have come meanwhile, so handlers of others have to be there already.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    signals.let_in()
    Lifeline().attach(loop, on_orphaned or stop)


async def pause(news: asyncio.Event, seconds: float) -> None:
    """Return when there is news, or after the time; the event is clear then."""
    timer = asyncio.get_running_loop().call_later(seconds, news.set)
    try:  # cheaper than `wait`, which ends by a cancellation: an idle process does this each second
        await news.wait()
    finally:
        timer.cancel()
    news.clear()


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Return when the event is set, or after the time; tell which."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
