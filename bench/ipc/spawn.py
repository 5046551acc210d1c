"""A fresh process for each request: what a script that polls does.

The leanest Python there is (-I -S: no site, no environment), which only copies stdin to stdout.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from bench.ipc.blocking import PIECE, loss
from bench.ipc.contract import FRAME, Channel, Loss, Wrong, stopped
from bench.ipc.server import end

_COPY = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
_AT_A_TIME = 8  # processes


class Spawn(Channel):
    """stdin is the request, stdout the reply, and the end of the process the end of both."""

    name = "subprocess"
    stays = False

    def _join(self, folder: Path) -> None:
        self._living: set[subprocess.Popen[bytes]] = set()
        self._stack.callback(self._end)

    def exchange(self, payload: bytes) -> bytes:
        """Start a process, give it the payload, and wait for its end."""
        process = self._start()
        self._give(process, payload)
        return self._take(process)

    def converse(self, payloads: Sequence[bytes]) -> None:
        """Exchange the payloads in order, some processes at a time."""
        for start in range(0, len(payloads), _AT_A_TIME):
            some = payloads[start : start + _AT_A_TIME]
            processes = [self._start() for _ in some]
            for process, payload in zip(processes, some, strict=True):
                self._give(process, payload)
            for process, payload in zip(processes, some, strict=True):
                if self._take(process) != payload:
                    raise Wrong("a payload came back as another")

    def hold(self, seconds: float) -> float:
        """Ask a process that stands still for `seconds`."""
        process = self._start()
        with stopped(process, seconds):
            began = time.perf_counter()
            self._give(process, b"?")
            self._take(process)
            return time.perf_counter() - began

    def lose(self) -> Loss:
        """Kill the process when the first bytes of its reply are there, and read to the end."""
        process = self._start()
        self._give(process, bytes(FRAME))
        reader = _stdout(process)
        got = len(os.read(reader, 1))
        killed = time.perf_counter()
        process.kill()
        while piece := os.read(reader, PIECE):
            got += len(piece)
        return loss(killed, "end of file", got)

    def memory(self) -> int:
        """Return what a process has resident while its reply waits for room in the pipe."""
        # While it lives: what the kernel tells at its end counts us too, from before the exec.
        process = self._start()
        self._give(process, bytes(PIECE * 2))
        os.read(_stdout(process), 1)
        resident = int(psutil.Process(process.pid).memory_info().rss)
        self._take(process)
        return resident

    def descriptors(self) -> int:
        """Return 0: no process stays."""
        return 0

    def _start(self) -> subprocess.Popen[bytes]:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _COPY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us alone
        )
        self.starting += time.perf_counter() - began
        self._living.add(process)
        return process

    def _give(self, process: subprocess.Popen[bytes], payload: bytes) -> None:
        if process.stdin:
            process.stdin.write(payload)
            process.stdin.close()

    def _take(self, process: subprocess.Popen[bytes]) -> bytes:
        echo = process.stdout.read() if process.stdout else b""
        process.wait()
        end(process)
        self._living.discard(process)
        return echo

    def _end(self) -> None:
        for process in self._living:
            end(process)
        self._living.clear()


def _stdout(process: subprocess.Popen[bytes]) -> int:
    if process.stdout is None:
        raise ValueError("the process has no stdout of ours")
    return process.stdout.fileno()
