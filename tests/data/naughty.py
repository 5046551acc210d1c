"""A backend that runs in the worker itself and misbehaves as the question says; for tests.

A question is the name of what to do, or nothing to do. After the word `once` it is done at the
first attempt only.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from autopoll.backends.contract import Report, Setting
from autopoll.message import Answer
from autopoll.request import Reply, Request

LONG = (
    11.0  # ten times as long as the main loop's turn, and more than twice the watchdog's patience
)
SLEEP = "import time; time.sleep(3600)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP}"
STRAY = f"import os; os.fork() and os._exit(0); os.setsid(); {DEAF}"
GREEDY = f"import time\nuntil = time.monotonic() + {LONG}\nwhile time.monotonic() < until: pass"


class Naughty:
    """See the contract of backends."""

    concurrency = 1

    def __init__(self, _setting: Setting) -> None:
        self._held: list[object] = []

    async def start(self) -> None:
        """Nothing to warm up."""

    async def probe(self) -> None:
        """Always well."""

    async def stop(self) -> None:
        """Leave everything behind."""

    async def answer(self, request: Request, report: Report) -> Reply:
        """Do what the question says."""
        *once, name = request.question.split()
        if hasattr(self, name) and (once != ["once"] or request.attempt == 1):
            getattr(self, name)()
        return Reply(answer=Answer(text=request.question))

    # --- hangs

    def wait_for_a_lock_that_nobody_releases(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    # --- honest work

    def receive_from_a_socket(self) -> None:
        here, _there = socket.socketpair()
        here.settimeout(LONG)
        try:
            here.recv(1)
        except TimeoutError:
            return

    def spin(self) -> None:
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            pass

    def hold_the_interpreter(self) -> None:
        ctypes.PyDLL(None).usleep(int(LONG * 1e6))  # unlike CDLL it keeps the interpreter lock

    def starve(self) -> None:
        """Need half a second of a core that others have taken, who count for a thousand times."""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        # Below us, because the kernel shares a core between sessions before it looks at niceness.
        greedy = [subprocess.Popen([sys.executable, "-c", GREEDY]) for _ in range(3)]
        os.nice(19)
        until = time.process_time() + 0.5
        while time.process_time() < until:
            pass
        for each in greedy:
            each.wait()

    # --- leaks

    def forget_a_child(self) -> None:
        os.posix_spawn("/bin/true", ["true"], {})

    def have_a_forgetful_child(self) -> None:
        code = f"import os; os.posix_spawn('/bin/true', ['true'], {{}}); {SLEEP}"
        subprocess.Popen([sys.executable, "-c", code])

    def leak_descriptors(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        self._held += [socket.socket() for _ in range(350)]

    def leak_memory(self) -> None:
        self._held.append(os.urandom(2**20) * 200)

    def leak_children(self) -> None:
        """More than anybody needs; some deaf, some in another session, some forked without exec."""
        for _ in range(205):
            self._held.append(subprocess.Popen(["sleep", "3600"], process_group=0))
        for code in (DEAF, STRAY):
            self._held.append(subprocess.Popen([sys.executable, "-c", code]))
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)
