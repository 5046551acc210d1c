"""A home whose processes are made up: those that live are we, the rest supervisord tells of."""

from contextlib import ExitStack
from pathlib import Path

from autopoll.errors import Exit, NotFound, SupervisorError
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.supervisor_rpc import Program

CONFIG = '[shards.main]\nbackend = "echo"\ninstances = 2\n'
CONF = "[unix_http_server]\nfile = %(here)s/../s.sock\n"
WORKERS = ("worker", "worker-main-2")


class Scene:
    """Stands in for the client of supervisord too."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.config.write_text(CONFIG)
        self.home.supervisord_conf.parent.mkdir()
        self.home.supervisord_conf.write_text(CONF)
        self.home.make_private()
        self.config: Config = load(self.home, {})
        self.states: dict[str, str] = {}
        self.supervisord = "RUNNING"
        self.hearts: dict[str, Heart] = {}
        self._open = ExitStack()

    def lives(self, *names: str) -> None:
        for name in names:
            heart = self._open.enter_context(Heart.open(self.home.beats, name, name))
            heart.state = ProcessState.IDLE
            self.hearts[name] = heart

    def says(self, name: str, text: str) -> None:
        (self.home.log / f"{name}.stderr").write_text(f"autopoll: {text}\n  mend it\n")

    def close(self) -> None:
        self._open.close()

    # --- as the client of supervisord

    def process(self, name: str) -> Program:
        state = self.states.get(name.partition(":")[0])
        if self.supervisord == "hung":
            raise SupervisorError("does not answer", hung=True)
        if self.supervisord == "down":
            raise SupervisorError("not running")
        if self.supervisord == "SHUTDOWN":
            raise SupervisorError("going down", stopping=True)
        if state is None:
            raise NotFound("no such program")
        return program(name.partition(":")[0], state)

    def processes(self) -> list[Program]:
        if self.supervisord in ("hung", "down"):
            raise SupervisorError("does not answer", hung=self.supervisord == "hung")
        running = dict.fromkeys(self.hearts, "RUNNING")
        return [program(name, state) for name, state in {**running, **self.states}.items()]

    def state(self) -> str:
        return self.supervisord


def program(name: str, state: str) -> Program:
    refused = Exit.BAD_CONFIG if state == "EXITED" else 0
    return Program(
        name=name, group=name, state=state, pid=0, start=0, stop=0, now=0, spawnerr="",
        exitstatus=refused, description="",
    )  # fmt: skip
