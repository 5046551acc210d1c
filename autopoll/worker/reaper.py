"""Reaps, at SIGUSR2, the ended children that nothing in this process has waited for.

An exit status can be collected once. Whoever has started a child and still means to wait for it
(asyncio, a subprocess.Popen) does so within moments of its end, as soon as the loop turns; so a
child is reaped here only if it was a zombie when the signal came and is still one after the loop
has turned for some seconds. The watchdog signals after ten.
"""

import asyncio
import logging
import os
import signal

from autopoll.process.proc_stat import all_stats

_RESPITE_S = 2.0

log = logging.getLogger(__name__)


def attach(loop: asyncio.AbstractEventLoop) -> None:
    """Reap at every SIGUSR2 that comes while the loop runs."""
    loop.add_signal_handler(signal.SIGUSR2, _ask, loop)


def _ask(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_later(_RESPITE_S, _reap, _dead_children())


def _reap(candidates: set[tuple[int, int]]) -> None:
    for pid, _ in candidates & _dead_children():
        try:
            _, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # another thread was faster
            continue
        log.warning("reaped child %d, status %d, that nothing waited for", pid, status)


def _dead_children() -> set[tuple[int, int]]:
    """Return (pid, start time) of our children that have ended and were not waited for."""
    me = os.getpid()
    return {(each.pid, each.started) for each in all_stats() if each.parent == me and each.zombie}
