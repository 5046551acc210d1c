"""Marks the time when a question passes, in any Python process that has this folder on its path.

Python imports this module by itself at its start. It wraps what a question passes through in a
poller or a worker, and writes the marks beside itself at the end: nothing of the product knows of
it. A run copies it into a folder of its own.
"""

import atexit
import os
import sys
import time
from pathlib import Path
from typing import Any

_marks: list[str] = []


def _mark(owner: Any, method: str, name: str) -> None:
    """Have a method leave `name<` when it is called and `name>` when it returns."""
    wrapped = getattr(owner, method)

    def marked(*args: Any, **more: Any) -> Any:
        _marks.append(f"{name}< {time.monotonic_ns()}")
        result = wrapped(*args, **more)
        _marks.append(f"{name}> {time.monotonic_ns()}")
        return result

    setattr(owner, method, marked)


def _begin() -> None:
    if "poller" in sys.orig_argv:
        from autopoll.poller.asked_questions import AskedQuestions
        from autopoll.poller.in_flight import InFlight
        from autopoll.poller.poller import Poller
        from autopoll.poller.replies import Replies

        _mark(AskedQuestions, "receive", "receive")
        _mark(InFlight, "send", "send")
        _mark(Replies, "_on_reply", "on_reply")
        _mark(Poller, "run_once", "turn")
        _mark(AskedQuestions, "settled", "settled")
    elif "worker" in sys.orig_argv:
        from autopoll.worker.request_server import RequestServer
        from fifo.server_end import ServerEnd

        _mark(RequestServer, "on_event", "request")
        _mark(ServerEnd, "reply", "reply")
    else:
        return
    path = Path(__file__).with_name(f"{os.getpid()}.marks")
    atexit.register(lambda: path.write_text("\n".join(_marks)))


_begin()
