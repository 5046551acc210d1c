"""The whole terminal for one command: a screen of its own, and keys as they are typed.

Signals only wake whoever waits for a key. The terminal is put back however the command ends: by a
key, an error, Ctrl-C, TERM, HUP, QUIT; and while it is stopped by Ctrl-Z.
"""

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from autopoll.cli.output import is_terminal, write
from autopoll.errors import UsageError

_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT,
    signal.SIGWINCH,
)  # fmt: skip
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
_KEYS = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down", b"\x1b": "escape",
    b"\r": "enter", b"\n": "enter", b"\t": "tab", b"\x04": "q",
}  # fmt: skip
ESCAPE_S = 0.05  # in which the rest of a key follows its Escape
REVERSE, BOLD = "\x1b[7m", "\x1b[1m"
_PLAIN = "\x1b[0m"


class TerminalScreen:
    """The screen, used as a context manager; raises UsageError where there is no terminal.

    The main thread alone may use it, but for `wake`.
    """

    def __init__(self) -> None:
        if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)) or _is_dumb():
            raise UsageError("this needs a terminal that can be drawn on", "See: autopoll status")
        self._keyboard = sys.stdin.fileno()
        self._before: list[Any] = termios.tcgetattr(self._keyboard)
        self._handlers: dict[int, Any] = {}
        self._old_wakeup = -1
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._typed = b""
        self._lock = threading.Lock()
        self._drawn: list[tuple[str, str]] = []
        self._drawn_size = (0, 0)

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, lambda *_: None)
        self._old_wakeup = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._put_back()
        finally:
            signal.set_wakeup_fd(self._old_wakeup)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            with self._lock:
                os.close(self._woken)
                os.close(self._waker)
                self._waker = -1

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        columns, lines = os.get_terminal_size(self._keyboard)
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show lines, each with its style, from the top; they must fit and be harmless.

        Only what has changed is written: the terminal may be at the end of a slow line.
        """
        size = self.size()
        if size != self._drawn_size:
            self._drawn, self._drawn_size = [], size
            write("\x1b[2J")
        changed = []
        for number, line in enumerate(lines):
            if self._drawn[number : number + 1] != [line]:
                text, style = line
                # Cleared before it: after a line that is full, some would clear its last character.
                changed.append(f"\x1b[{number + 1};1H\x1b[K{style}{text}{_PLAIN if style else ''}")
        if len(self._drawn) > len(lines):
            changed.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._drawn = list(lines)
        write("".join(changed))

    def wake(self) -> None:
        """Have `key` return; for other threads."""
        with self._lock, suppress(BlockingIOError):  # so much is pending that it wakes anyway
            if self._waker >= 0:
                os.write(self._waker, b"\0")

    def key(self, seconds: float) -> str | None:
        """Return the next key by its name, None after so long, or when it is time to draw again.

        Raises KeyboardInterrupt for Ctrl-C, EOFError when the terminal is gone. TERM, HUP and QUIT
        end the process after the terminal is put back.
        """
        if not self._typed:
            ready, _, _ = select.select([self._keyboard, self._woken], [], [], seconds)
            if self._woken in ready:
                for number in os.read(self._woken, 4096):
                    self._act(number)
            if self._keyboard not in ready:
                return None
            self._typed = self._read()
        return self._next_key()

    def _next_key(self) -> str | None:
        # The longest first: the keys of arrows begin as Escape does.
        for code in sorted(_KEYS, key=len, reverse=True):
            if self._typed.startswith(code):
                if code == b"\x1b" and len(self._typed) > 1:
                    self._typed = b""  # a key that has no name here
                    return None
                self._typed = self._typed[len(code) :]
                return _KEYS[code]
        key, self._typed = self._typed[:1], self._typed[1:]
        return key.decode("ascii", "replace")

    def _read(self) -> bytes:
        try:
            typed = os.read(self._keyboard, 1024)
            # The rest of an arrow may come later, over a slow line.
            if typed == b"\x1b" and select.select([self._keyboard], [], [], ESCAPE_S)[0]:
                typed += os.read(self._keyboard, 1024)
        except OSError:
            typed = b""
        if not typed:
            raise EOFError
        return typed

    def _act(self, number: int) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            # Whoever has sent it sees that it did what was asked.
            try:
                self._put_back()
            finally:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif number == signal.SIGTSTP:
            self._put_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, lambda *_: None)  # it goes on
            self._take()
        elif number == signal.SIGCONT:  # after a SIGSTOP the shell has had the terminal
            self._take()

    def _take(self) -> None:
        tty.setcbreak(self._keyboard)
        self._drawn_size = (0, 0)
        write(_ENTER)

    def _put_back(self) -> None:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._before)
        write(_LEAVE)


def _is_dumb() -> bool:
    return os.environ.get("TERM", "") in ("", "dumb", "unknown")
