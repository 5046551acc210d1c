"""`autopoll top`: the home, live, with keys that act on what is selected."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.cli.render import print_json
from autopoll.errors import AutopollError, NotFound

if TYPE_CHECKING:
    from autopoll.cli.terminal_screen import TerminalScreen
    from autopoll.ops.home_snapshot import HomeSnapshot

REFRESH_S = 1.0
KEYS = "q quit  arrows select  r restart  d drain  l logs  p pause or resume"


@command(
    "top",
    fields='{"at","status":as `autopoll status`,"shards":[{"status","waiting","oldest_s",\n'
    ' "per_minute","p50_ms","p99_ms"}],"incidents":[…]}, as it is at the moment',
    example="autopoll top\nautopoll top --json",
)
def top(cli: CommandLine) -> None:
    """Show processes, shards and the last incidents, live; keys act on the selected row.

    Arrows or j and k select; r restarts a process, d drains it (it finishes what it has in hand and
    stays stopped until it is restarted), l shows its log; p pauses a shard, or resumes it; q ends.
    What changes anything asks first.
    """
    if cli.json:
        from autopoll.ops.home_snapshot import snapshot

        print_json(snapshot(cli.home, cli.config))
        return
    from autopoll.cli.terminal_screen import TerminalScreen

    with TerminalScreen() as screen:
        live = _Top(cli, screen)
        live.run()
    live.finish()


class _Confirmation(NamedTuple):
    """What is to be done once y is typed."""

    words: str
    deed: Callable[[], str]


class _Top:
    """What is shown, and what the keys do. Looking and acting happen in threads of their own, so
    that a key is taken at once whatever hangs."""

    def __init__(self, cli: CommandLine, screen: "TerminalScreen") -> None:
        self._home = cli.home
        self._screen = screen
        self._now: HomeSnapshot | None = None
        self._place = 0
        self._message = ""
        self._question: _Confirmation | None = None
        self._log: str | None = None  # the process whose log is shown
        self._ended = False
        self._deed: threading.Thread | None = None
        self._bug: BaseException | None = None  # that has ended one of the threads

    def run(self) -> None:
        """Draw and take keys until q is typed or the terminal is gone."""
        threading.excepthook = self._note_bug
        threading.Thread(target=self._look, name="look", daemon=True).start()
        while not self._ended:
            if self._bug is not None:
                raise self._bug
            self._draw()
            try:
                key = self._screen.key(REFRESH_S)
            except EOFError:
                return
            if key is not None:
                self._take(key)

    def finish(self) -> None:
        """Wait for what is under way, so that it is not left half done."""
        if self._deed is not None and self._deed.is_alive():
            say(f"{self._message}; Ctrl-C leaves it there")
            self._deed.join()
            say(self._message)

    def _note_bug(self, raised: threading.ExceptHookArgs) -> None:
        self._bug = raised.exc_value
        self._screen.wake()

    def _look(self) -> None:
        from autopoll.home.config import load
        from autopoll.ops.home_snapshot import snapshot

        while not self._ended:
            try:
                self._now = snapshot(self._home, load(self._home))
            except AutopollError as error:
                self._message = error.what
            self._screen.wake()
            time.sleep(REFRESH_S)

    def _draw(self) -> None:
        from autopoll.cli.top_frame import frame, log_frame, rows

        width, height = self._screen.size()
        if self._now is None:
            lines = [(self._message or "looking …", "")]
        elif self._log is not None:
            lines = log_frame(self._home, self._log, width, height)
        else:
            found = rows(self._now)
            self._place = max(0, min(self._place, len(found) - 1))
            selected = found[self._place] if found else None
            footer = self._question.words if self._question else self._message or KEYS
            lines = frame(self._now, selected, footer, width, height)
        self._screen.draw(lines)

    def _take(self, key: str) -> None:
        if self._question is not None:
            question, self._question = self._question, None
            self._message = "nothing was changed"
            if key in ("y", "Y"):
                self._do(question)
        elif self._log is not None:
            self._log = None if key in ("q", "escape", "l") else self._log
        elif key == "q":
            self._ended = True
        elif key in ("up", "k", "down", "j", "tab"):
            self._message = ""
            self._place += -1 if key in ("up", "k") else 1
        else:
            self._ask(key)

    def _ask(self, key: str) -> None:
        from autopoll.cli.top_frame import rows

        found = rows(self._now) if self._now else []
        if key not in ("r", "d", "l", "p") or not found:
            return
        selected = found[self._place]
        if (selected.kind == "shard") != (key == "p"):
            wanted = "shard" if key == "p" else "process"
            self._message = f"{selected.name} is a {selected.kind}; select a {wanted}"
        elif key == "p":
            self._question = self._pause_or_resume(selected.name)
        elif key == "l":
            self._show_log(selected.name)
        elif key == "r":
            words = f"Restart {selected.name} once it has finished what it has in hand? [y/N]"
            self._question = _Confirmation(words, lambda: self._restart(selected.name))
        else:
            words = f"Drain {selected.name}? It stays stopped until it is restarted. [y/N]"
            self._question = _Confirmation(words, lambda: self._drain(selected.name))

    def _show_log(self, name: str) -> None:
        from autopoll.cli.log_tail import require_log

        try:
            require_log(self._home.log, name)
        except NotFound as error:
            self._message = error.what
        else:
            self._log = name

    def _pause_or_resume(self, shard: str) -> _Confirmation:
        from autopoll.process import shard_pause

        if shard_pause.current(self._home, shard) is None:
            words = f"Pause {shard}? What is under way is finished, the rest waits. [y/N]"
            return _Confirmation(words, lambda: self._pause(shard))
        return _Confirmation(f"Resume {shard}? [y/N]", lambda: self._resume(shard))

    def _pause(self, shard: str) -> str:
        from autopoll.home.config import load
        from autopoll.home.operation_log import operator_name
        from autopoll.ops.pausing import pause

        made = pause(self._home, load(self._home), shard, operator_name())
        return f"{shard} is paused {made.words}"

    def _resume(self, shard: str) -> str:
        from autopoll.home.config import load
        from autopoll.home.operation_log import operator_name
        from autopoll.ops.pausing import resume

        done = resume(self._home, load(self._home), shard, operator_name())
        return f"{shard} is paused {done.paused}" if done.paused else f"{shard} is resumed"

    def _do(self, question: _Confirmation) -> None:
        if self._deed is not None and self._deed.is_alive():
            self._message = "wait until what is under way is done"
            return

        def act() -> None:
            try:
                self._message = question.deed()
            except AutopollError as error:
                self._message = f"{error.what}. {error.mend}"
            self._screen.wake()

        self._message = "under way …"
        self._deed = threading.Thread(target=act, name="act", daemon=True)
        self._deed.start()

    def _restart(self, name: str) -> str:
        from autopoll.ops.restart import restart_program

        restart_program(self._home, name, self._report)
        return f"{name} is up again"

    def _drain(self, name: str) -> str:
        from autopoll.home.home import socket_path
        from autopoll.process.supervisor_rpc import Supervisor

        Supervisor(socket_path(self._home)).stop(name)
        return f"{name} drains; start it again with r"

    def _report(self, words: str) -> None:
        self._message = words
        self._screen.wake()
