"""A program kept running; lines go in and out through raw pipes that never block the loop.

Its end is reported once, whatever shows it first: the exit, the end of output, or a broken pipe.
The exit is read from a pidfd and not from the end of output, because a grandchild may hold that
open for ever.
"""

import asyncio
import logging
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autopoll.backends.child.descendants import MARK, kill_descendants
from autopoll.backends.contract import Broken
from autopoll.redact.redact import redact

MAX_LINE = 16 * 1024 * 1024
KEPT = 8192  # bytes of its standard error that are kept for the error text
SEARCHED = 2 * KEPT  # and what is searched for secrets, because half a secret is not known for one
CHUNK = 65536  # one read per turn of the loop, so that a flood cannot starve the rest
READS_AFTER_EXIT = 16  # at most, in case a grandchild keeps on writing
LOOK_S = 0.1  # between two polls of a program without a pidfd
GRACE_S = 0.2  # between the end of output and the exit that mostly follows it
CLOSE_S, TERM_S, KILL_S, DESCENDANTS_S = 1.0, 2.0, 1.0, 0.5  # the steps of stopping, five at most

_log = logging.getLogger(__name__)


class Child:
    """One running program. `on_line` is given every line; `on_end` once, with how it ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        on_line: Callable[[bytes], None],
        on_end: Callable[[str], None],
        max_line: int = MAX_LINE,
    ) -> None:
        """Start the program in our process group; raise Broken when it cannot be started."""
        self._on_line, self._on_end = on_line, on_end
        self._loop = asyncio.get_running_loop()
        self._max_line = max_line
        self._mark = secrets.token_hex(8)
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, MARK: self._mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise Broken(f"{command[0]} cannot be started: {error.strerror}") from error
        self._name = Path(command[0]).name
        pipes = self._process
        assert pipes.stdin is not None and pipes.stdout is not None and pipes.stderr is not None
        self._stdin, self._stdout, self._stderr = pipes.stdin, pipes.stdout, pipes.stderr
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)
        self._pidfd = _open(self._process.pid)
        self._exited = asyncio.Event()
        self._unsent = bytearray()
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._line_size = 0
        self._stderr_tail = b""
        self._ended: str | None = None
        self._loop.add_reader(self._stdout, self._read_output)
        self._loop.add_reader(self._stderr, self._read_errors)
        if self._pidfd is None:
            self._look()
        else:
            self._loop.add_reader(self._pidfd, self._exit)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> str | None:
        """How it ended, or None while it runs."""
        return self._ended

    def send(self, line: bytes) -> None:
        """Send a line; what the pipe does not take at once follows as the program reads."""
        if self._ended is None:
            blocked = bool(self._unsent)
            self._unsent += line + b"\n"
            if not blocked:
                self._write()

    def end(self, why: str) -> None:
        """Kill it, and call `on_end` with the reason; only the first reason counts."""
        if self._ended is None:
            self._ended = f"{self._name} (pid {self.pid}) {why}{self._last_words()}"
            self._unplug()
            if not self._exited.is_set():
                self._process.kill()
            self._on_end(self._ended)

    async def stop(self) -> None:
        """Close its input, then TERM, then KILL it, and kill what it has started itself."""
        if self._ended is None:
            self._ended = f"{self._name} was stopped"
            self._unplug()
            self._on_end(self._ended)
        try:
            # A program that only waits for its next line ends by itself when there is none.
            if not await self._exits_within(CLOSE_S):
                self._process.terminate()
                await self._exits_within(TERM_S)
        finally:
            if not self._exited.is_set():
                self._process.kill()
        await self._exits_within(KILL_S)
        await asyncio.to_thread(kill_descendants, self._mark, patience=DESCENDANTS_S)

    async def _exits_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True

    # --- callbacks of the loop

    def _write(self) -> None:
        try:
            written = os.write(self._stdin.fileno(), self._unsent[:CHUNK])
        except BlockingIOError:
            written = 0
        except BrokenPipeError:
            written = len(self._unsent)
            self._loop.call_later(GRACE_S, self.end, "closed its input while it was running")
        del self._unsent[:written]
        if self._unsent:
            self._loop.add_writer(self._stdin, self._write)
        else:
            self._loop.remove_writer(self._stdin)

    def _read_output(self) -> None:
        data = _read(self._stdout.fileno())
        if data == b"":
            self._loop.remove_reader(self._stdout)
            self._loop.call_later(GRACE_S, self.end, "closed its output while it was running")
        elif data is not None:
            self._take(data)

    def _take(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            if self._ended is not None:
                return
            self._on_line(b"".join((*self._line, line)))
            self._line.clear()
            self._line_size = 0
        self._line.append(rest)
        self._line_size += len(rest)
        if self._line_size > self._max_line:
            self.end(f"sent a line of more than {self._max_line:,} bytes")

    def _read_errors(self) -> None:
        data = _read(self._stderr.fileno())
        if data == b"":
            self._loop.remove_reader(self._stderr)
        elif data is not None:
            self._stderr_tail = (self._stderr_tail + data)[-SEARCHED:]

    def _look(self) -> None:
        """Poll whether it has ended; used where there is no pidfd."""
        if self._process.poll() is None:
            self._loop.call_later(LOOK_S, self._look)
        else:
            self._exit()

    def _exit(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        code = self._process.wait()
        self._exited.set()
        for _ in range(READS_AFTER_EXIT):  # an answer it gave before it went is an answer
            data = None if self._ended is not None else _read(self._stdout.fileno())
            if not data:
                break
            self._take(data)
        if self._ended is None:
            self._read_errors()
            self.end(_describe(code))

    def _unplug(self) -> None:
        for pipe in (self._stdin, self._stdout, self._stderr):
            self._loop.remove_reader(pipe)
            self._loop.remove_writer(pipe)
            pipe.close()
        self._unsent.clear()
        self._line.clear()

    def _last_words(self) -> str:
        words = redact(self._stderr_tail.decode("utf-8", "replace"))[-KEPT:].strip()
        return f"; its last words: {words}" if words else ""


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError as error:  # an old kernel, or a filter around us
        _log.warning("an exit is noticed within %g s: %s", LOOK_S, error)
        return None


def _read(descriptor: int) -> bytes | None:
    """Return what there is, b"" at the end, None when there is nothing now."""
    try:
        return os.read(descriptor, CHUNK)
    except BlockingIOError:
        return None


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"
