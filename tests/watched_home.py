"""A scratch home with dummies and a watchdog, all real processes."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import msgspec
from adoption import adopting
from place import until

from autopoll.home.home import Home
from autopoll.process import heartbeat, incident_log, orphans
from autopoll.process.atomic_record import Slots
from autopoll.process.heartbeat import Beat, is_alive
from autopoll.process.incident_log import Incident
from autopoll.process.orphans import Marked

DUMMY = str(Path(__file__).parent / "dummy.py")
WATCHDOG = str(Path(__file__).parent / "watch.py")
CONF = "[unix_http_server]\nfile = %(here)s/../var/run/s.sock\n"


class WatchedHome:
    """Ends every process it started when it is left."""

    def __init__(self, root: Path, conf: str = CONF) -> None:
        self.home = Home(root)
        self.home.supervisord_conf.parent.mkdir(parents=True)
        self.home.supervisord_conf.write_text(conf)
        self.home.config.touch()
        self.home.make_private()
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "WatchedHome":
        self.adoption = adopting()
        self.adoption.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()
        orphans.sweep({"AUTOPOLL_SUPERVISED": str(self.home.supervisord_conf.parent)}, grace=0.1)
        self.adoption.__exit__(None, None, None)

    def start(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *argv],
            stdin=subprocess.PIPE,
            process_group=0,  # as supervisord does
            env={**os.environ, **(env or {})},
        )
        self.processes.append(process)
        return process

    def watch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the watchdog and wait until it is at work."""
        self.watchdog = self.start(WATCHDOG, str(self.home.root), *arguments)
        self.is_at_work(self.watchdog, "watchdog")
        return self.watchdog

    def start_dummy(self, name: str, behaviour: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a dummy and wait until it shows its state."""
        process = self.start(DUMMY, str(self.home.root), name, behaviour, env=env)
        self.is_at_work(process, name)
        return process

    def start_watched(self, **behaviours: str) -> list[subprocess.Popen[bytes]]:
        """Start dummies (name=behaviour) and wait until the watchdog listens for their deaths."""
        started = {
            name: self.start(DUMMY, str(self.home.root), name, behaviour, env=self.marks(name))
            for name, behaviour in behaviours.items()
        }
        for name, process in started.items():
            self.is_at_work(process, name)
        for process in started.values():
            until(lambda process=process: process.pid in self.watched())
        return list(started.values())

    def marks(self, name: str) -> dict[str, str]:
        """What a worker's environment holds, and all that it starts inherits."""
        tree = str(self.home.supervisord_conf.parent)
        return {"AUTOPOLL_SUPERVISED": tree, "AUTOPOLL_INSTANCE": name}

    def left(self, name: str) -> list[Marked]:
        """What bears the marks of a worker."""
        return orphans.find(self.marks(name))

    def is_at_work(self, process: subprocess.Popen[bytes], name: str) -> None:
        until(lambda: (b := self.beat(name)) and b.pid == process.pid and b.ready_at)

    def watched(self) -> set[int]:
        """The pids that the watchdog holds a pidfd of."""
        watched = set()
        for entry in Path(f"/proc/{self.watchdog.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                lines = entry.read_text().splitlines()
                watched |= {int(line.split()[1]) for line in lines if line.startswith("Pid:")}
        return watched

    def block_file(self, name: str) -> Path:
        """The file that makes the loop of a dummy stand still while it exists."""
        return self.home.run / f"{name}.block"

    def forge(self, beat: Beat) -> None:
        """Write a heartbeat as if a process had."""
        Slots(self.home.beats / beat.name).write(msgspec.msgpack.encode(beat))

    def beat(self, name: str) -> Beat | None:
        return heartbeat.read(self.home.beats / name)

    def lives(self, name: str) -> bool:
        return (beat := self.beat(name)) is not None and is_alive(beat)

    def incidents(self, name: str) -> list[Incident]:
        return [each for each in incident_log.read(self.home.incidents) if each.process == name]

    def incident(self, name: str, verdict: str, seconds: float = 20.0) -> Incident:
        """Wait for the first incident of this kind."""

        def found() -> Incident | None:
            return next((i for i in self.incidents(name) if i.verdict == verdict), None)

        incident = until(found, seconds, f"{name} to be {verdict}")
        assert isinstance(incident, Incident)
        return incident

    def evidence(self, name: str, file: str) -> str:
        """What was kept of a process that was killed."""
        folder = next(each for each in self.home.evidence.iterdir() if each.name.endswith(name))
        return (folder / file).read_text()

    def turns(self, name: str, times: int) -> None:
        """Wait until the main loop of a process has gone round so many times."""
        for _ in range(times):
            last = self.beat(name)
            assert last
            until(lambda last=last: (b := self.beat(name)) and b.loop_beat > last.loop_beat)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(process.pid))
