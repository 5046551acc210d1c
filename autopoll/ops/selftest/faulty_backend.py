"""The backend of `autopoll faults`: it gives the question back, and misbehaves when asked to.

It does so in the worker itself, where it hurts most, and once: asked again, it answers. Only the
scratch home of the self-test knows it, by an entry point of its own.
"""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable

from autopoll.backends.contract import Report, Setting
from autopoll.message import Answer
from autopoll.request import Reply, Request

NAP_S = 1.0
TOIL_S = 8.0  # longer than a loop that stands still is tolerated, were no request in hand
MARK = "AUTOPOLL_FAULT"  # in the environment of children that outlive us
_FILES = 256  # what the leaking process may have open at most
_LEAKED = 215
_ENDLESS = "trap '' TERM; while :; do sleep 1; done"


class Faulty:
    """Answers with the question."""

    concurrency = 1

    def __init__(self, setting: Setting) -> None:
        self._root = setting.root

    async def start(self) -> None:
        """Do nothing: it is always ready."""

    async def answer(self, request: Request, report: Report) -> Reply:
        """Do what the question names, unless that was done before, and give it back."""
        if request.question == "nap":
            await asyncio.sleep(NAP_S)
        elif request.question == "toil":
            work_hard()
        misbehave = FAULTS.get(request.question)
        if misbehave and self._is_new(request.question):
            misbehave()
        return Reply(answer=Answer(text=request.question))

    async def probe(self) -> None:
        """Find nothing wrong."""

    async def stop(self) -> None:
        """Do nothing: what it has done is there for others to find."""

    def _is_new(self, fault: str) -> bool:
        try:
            (self._root / f"{fault}.done").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def work_hard() -> None:
    """Compute in the main loop itself, which is slow and no fault."""
    end = time.monotonic() + TOIL_S
    while time.monotonic() < end:
        pass


def wait_for_itself() -> None:
    """Stop the whole loop in a deadlock."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def leave_zombie() -> None:
    """Start a child that ends at once, and never reap it."""
    # Not by subprocess, which reaps what it has forgotten when it starts the next child.
    os.posix_spawn(shutil.which("true") or "/bin/true", ["true"], {})


def leak_descriptors() -> None:
    """Keep more files open than is good for us, of those that we may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
    while os.open(os.devnull, os.O_RDONLY) < _LEAKED:
        pass


def leave_children() -> None:
    """Die and leave children that ignore TERM, one of them in a session of its own."""
    for apart in (False, True):
        environment = {**os.environ, MARK: "children"}
        subprocess.Popen(["sh", "-c", _ENDLESS], env=environment, start_new_session=apart)
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS: dict[str, Callable[[], None]] = {
    "deadlock": wait_for_itself,
    "zombie": leave_zombie,
    "leak": leak_descriptors,
    "children": leave_children,
}
