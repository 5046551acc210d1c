"""A command on a terminal of its own: what it shows, is typed, and leaves of the terminal."""

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class OnTerminal:
    """A process whose standard streams are a pseudo-terminal."""

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._slave)
        self.text = ""
        kept = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
        # A group of its own, as jobs of a shell have: one without a parent elsewhere in its session
        # cannot be stopped by the terminal.
        self.process = subprocess.Popen(
            command, cwd=cwd, env={"TERM": "xterm", **kept, "NO_COLOR": "1"},
            stdin=self._slave, stdout=self._slave, stderr=self._slave,
            process_group=0,
        )  # fmt: skip

    def resize(self, columns: int, lines: int) -> None:
        termios.tcsetwinsize(self._slave, (lines, columns))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def attributes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def set_attributes(self, attributes: list[Any]) -> None:
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def read(self, seconds: float = 0.05) -> str:
        """Take what is shown meanwhile."""
        while select.select([self.master], [], [], seconds)[0]:
            self.text += os.read(self.master, 65536).decode("utf-8", "replace")
        return self.text

    def sees(self, words: str, seconds: float = 30.0) -> None:
        """Wait until these words are shown, and forget all that was shown before."""
        self.until(lambda: words in self.text, seconds, words)
        self.text = self.text[self.text.rindex(words) + len(words) :]

    def until(self, condition: Callable[[], Any], seconds: float = 30.0, what: str = "") -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited for {what}: {self.text[-2000:]!r}"
            self.read()

    def ends(self, seconds: float = 30.0) -> int:
        """Wait for its end while reading what it shows, and return its exit code."""
        self.until(lambda: self.process.poll() is not None, seconds, "its end")
        self.read()
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)
