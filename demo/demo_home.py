"""A home of a demonstration, used by the commands that a person would type."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from narration import command, promise, quoted, say, until

from autopoll.home.home import Home
from autopoll.process import heartbeat


class DemoHome:
    """One home in a scratch folder."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("AUTOPOLL_")
        }

    def autopoll(self, *args: str, show: bool = False, quiet: bool = False) -> str:
        """Run a command in the home and return what it printed."""
        if not quiet:
            command(" ".join(["autopoll", *(quoted(arg) for arg in args)]))
        done = subprocess.run(
            [sys.executable, "-m", "autopoll", *args],
            cwd=self.home.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=150,
        )
        promise(done.returncode == 0, f"autopoll {' '.join(args)} ends with 0")
        if show:
            say(done.stdout.rstrip())
        return done.stdout

    def json(self, *args: str, quiet: bool = False) -> Any:
        """Run a command for its JSON; it is shown as a person would type it."""
        if not quiet:
            command(" ".join(["autopoll", *(quoted(arg) for arg in args)]))
        return json.loads(self.autopoll(*args, "--json", quiet=True))

    def answers_to(self, asked: int) -> int:
        """Count the answers on the bridge that name a question."""
        lines = self.autopoll("messages", "--type", "response", "--json", quiet=True).splitlines()
        metadata = [json.loads(line)["metadata"] for line in lines]
        return sum(
            (json.loads(one) if isinstance(one, str) else one)["in_reply_to"] == asked
            for one in metadata
        )

    def processes(self) -> list[psutil.Process]:
        """Return what still runs in the home or was started by its supervisord."""
        found = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get("AUTOPOLL_SUPERVISED", "")
                if Path(process.cwd()) == self.home.root or Path(mark) == self.home.root / "conf":
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def clean_up(self) -> None:
        """Leave nothing running, whatever came before."""
        if self.home.supervisord_conf.exists():
            subprocess.run(
                [sys.executable, "-m", "autopoll", "down"],
                cwd=self.home.root,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                timeout=150,
            )
        for process in self.processes():
            process.kill()

    def halfway(self, name: str) -> heartbeat.Beat:
        """Return the heartbeat of a worker when it is in the middle of a question."""

        def seen() -> heartbeat.Beat | None:
            beat = heartbeat.read(self.home.beats / name)
            return beat if beat and beat.request_id is not None and beat.progress > 5 else None

        beat: heartbeat.Beat = until(seen, f"{name} to be in the middle of it")
        say(f"{name} (process {beat.pid}) is at it: {beat.progress} signs of progress so far")
        return beat

    def kill_all(self) -> int:
        """Kill every process of the home at once, and return how many there were."""
        struck: dict[int, psutil.Process] = {}
        while new := [each for each in self.processes() if each.pid not in struck]:
            for each in new:
                with suppress(psutil.NoSuchProcess):
                    each.suspend()  # so that none notices the death of another
            struck.update((each.pid, each) for each in new)
        for each in struck.values():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        until(lambda: not self.processes(), "the processes to be dead")
        return len(struck)
