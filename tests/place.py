"""A real home in a scratch folder, driven the way its users drive it: by the command line."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import commands
import psutil
from commands import AUTOPOLL

from autopoll.bridge.connect import open_bridge
from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import BridgeLimits, Message
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.message import read_answer
from autopoll.process import heartbeat
from autopoll.process.heartbeat import Beat

ROLES = ("poller", "worker", "watchdog", "gateway")
ECHO = '[shards.main]\nbackend = "echo"\n'
# Runs a program as root without root's right to read and write every file, as users are.
_LIMITED = "-dac_override,-dac_read_search"
ORDINARY = ["setpriv", f"--bounding-set={_LIMITED}", f"--inh-caps={_LIMITED}"]


def until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Return the condition's first true value; fail when none comes in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what or condition}"
        time.sleep(0.01)
    return value


@contextmanager
def leaving_no_process() -> Iterator[None]:
    """See that nothing that was started meanwhile runs below this process.

    Only what is new counts: what earlier tests left to end, or share, may end at any moment. A
    server that they share starts and ends processes of its own.
    """
    before = set(psutil.Process().children(recursive=True))
    yield
    new = set(psutil.Process().children(recursive=True)) - before
    assert {each for each in new if not _is_of_postgres(each)} == set()


def _is_of_postgres(process: psutil.Process) -> bool:
    try:
        return process.name() == "postgres"
    except psutil.NoSuchProcess:
        return False


class Place:
    """One home; `down` is always called at the end of a test, whatever happened to it."""

    def __init__(self, root: Path, config: str | None = ECHO) -> None:
        """Make a home with these settings, or take the one that is there when given none."""
        self.root = root
        self.command = list(AUTOPOLL)
        self.home = Home(root)
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("AUTOPOLL_")
        }
        self.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # Where sockets of homes under long paths lie; pytest's own folders may be long as well.
        self.state = tempfile.TemporaryDirectory(prefix="ap-")
        self.environ["XDG_STATE_HOME"] = self.state.name
        root.mkdir(parents=True, exist_ok=True)
        if config is not None:
            (root / "autopoll.toml").write_text(config)
            self.run("init", str(root))

    def be_ordinary(self) -> "Place":
        """From now on run every command without root's rights over files."""
        if os.geteuid() == 0:
            self.command = [*ORDINARY, *self.command]
        return self

    # --- the command line

    def run(
        self, *args: str, code: int | None = 0, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `autopoll …` in the home and check its exit code (None: any)."""
        done = commands.run(
            [*self.command, *args], cwd=self.root, env=self.environ, text=stdin, timeout=timeout
        )
        assert code is None or done.returncode == code, (
            f"autopoll {' '.join(args)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *args: str, code: int | None = 0, **more: Any) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self.run(*args, "--json", code=code, **more).stdout)

    def json_lines(self, *args: str, **more: Any) -> list[Any]:
        """Run a command that prints an object a line, and return them."""
        return [json.loads(line) for line in self.run(*args, "--json", **more).stdout.splitlines()]

    def ask(self, question: str, *args: str, **more: Any) -> dict[str, Any]:
        return self.json("ask", question, *args, **more)

    def start(self, *args: str) -> "commands.Forked | subprocess.Popen[str]":
        """Start a command and leave it running."""
        return commands.start([*self.command, *args], cwd=self.root, env=self.environ)

    def start_ask(self, question: str, *args: str) -> "commands.Forked | subprocess.Popen[str]":
        """Start an `ask` and leave it waiting."""
        return self.start("ask", question, "--json", *args)

    # --- its processes

    def beat(self, name: str) -> Beat | None:
        """Return the heartbeat of a process that lives."""
        beat = heartbeat.read(self.home.beats / name)
        return beat if beat and heartbeat.is_alive(beat) else None

    def pid(self, name: str) -> int:
        beat = self.beat(name)
        assert beat, f"{name} does not live"
        return beat.pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def busy(self, name: str) -> Beat:
        """Wait until a worker has a request in hand."""
        return until(
            lambda: (beat := self.beat(name)) and beat.request_id is not None and beat,
            what=f"{name} to be busy",
        )

    def ready(self, *names: str, seconds: float = 60.0) -> None:
        """Wait until processes live and can take work."""
        for name in names:
            until(
                lambda name=name: (b := self.beat(name)) and b.state in ("idle", "busy"),
                seconds,
                f"{name} to be ready",
            )

    def supervisord(self) -> int:
        return int((self.home.run / "supervisord.pid").read_text())

    def processes(self) -> list[psutil.Process]:
        """Return everything that supervisord started here, orphans too."""
        mark = str(self.home.supervisord_conf.parent)
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("AUTOPOLL_SUPERVISED") == mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def names(self) -> list[str]:
        """Return the role of every process here, sorted; a name twice is a double."""
        roles = []
        for process in self.processes():
            try:
                line = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            roles += [word for word in line if word in ("poller", "worker", "watchdog", "gateway")][
                :1
            ]
        return sorted(roles)

    # --- all of it

    @contextmanager
    def running(self) -> Iterator["Place"]:
        """Bring it up; take it down at the end, whatever happened, also when it did not come up."""
        try:
            self.run("up")
            yield self
        finally:
            self.close()

    # --- its bridge

    def bridge(self) -> Bridge:
        url = load(self.home, {}).bridge.url
        return open_bridge(url, self.root, BridgeLimits())

    def down(self) -> None:
        """Take everything down, also what is stopped."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it ended since we looked
                process.send_signal(signal.SIGCONT)
        self.run("down", timeout=150)

    def close(self) -> None:
        """Take everything down; what is left over then fails the test that left it."""
        self.down()
        left = [process for process in self.processes() if process.is_running()]
        for process in left:
            process.kill()
        self.state.cleanup()
        assert not left, f"left running: {left}"


def answers_to(messages: list[Message]) -> list[int]:
    """Return which message each answer answers, in the order of the answers."""
    return [
        json.loads(message.metadata or "{}")["in_reply_to"]
        for message in messages
        if json.loads(message.metadata or "{}").get("type") == "response"
    ]


def texts(messages: list[Message]) -> list[str]:
    return [read_answer(message.text, message.metadata).text for message in messages]
