"""Makes this process the adopter of the orphans below it, as supervisord is in a home."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from autopoll.process.proc_stat import all_stats

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Adopt orphans meanwhile, and reap at the end what has ended of them."""
    before = {each.pid for each in all_stats() if each.parent == os.getpid()}
    libc = ctypes.CDLL(None)
    was = ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0)
        for each in all_stats():
            if each.parent == os.getpid() and each.zombie and each.pid not in before:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(each.pid, 0)
