"""The warm instance of a worker: started, probed, replaced, and none of it too often.

An instance that does not start, one that breaks, and a worker that died are crashes of one budget
(see process.restart_gate). Through the first two the process stays up, so that supervisord never
counts them: it would give up for good, or, after three seconds of life, restart without any pause.
"""

import asyncio
import logging
from collections.abc import Callable

from autopoll.backends import open_backend
from autopoll.backends.context.remarks import NOTHING, Remarks, keep
from autopoll.backends.contract import Backend, Broken, Setting, Unavailable
from autopoll.home.config import Config, context_paths
from autopoll.home.home import Home
from autopoll.process import shard_pause
from autopoll.process.heartbeat import Beat, ProcessState
from autopoll.process.restart_gate import Gate
from autopoll.process.shard_pause import Pause
from autopoll.redact.redact import redact
from autopoll.worker.backend_errors import failure_of, named

START_LIMIT_S = 60.0
PROBE_LIMIT_S = 1.0

log = logging.getLogger(__name__)


class Instance:
    """A backend that answers while `warm` is set, and else the reason why none does."""

    def __init__(self, home: Home, config: Config, shard: str, name: str) -> None:
        """Open the backend, which is not started yet; raises ConfigError."""
        self.home = home
        self.name = name
        section = config.shards[shard]
        self._kind = section.backend
        self._setting = Setting(
            shard=shard,
            root=home.root,
            context=context_paths(home, section),
            options=section.options,
        )
        self.backend: Backend = open_backend(self._kind, self._setting)
        self.warm = asyncio.Event()
        self.note = ""  # what the last one died of, until there is one that works
        self.on_broken: Callable[[], None]  # set by its worker, before anything can break
        self._gate = Gate(home.gates / name, home.incidents)
        self._refusal: Pause | None = None  # of the last start, by the service behind the backend
        self._remarks: Remarks | None = None  # of the backend on its files, as they are kept

    def learn(self, before: Beat, crashed: bool) -> None:
        """Draw the conclusion from how the worker before this one ended."""
        if crashed and before.state is not ProcessState.HELD:  # then nothing had been tried
            said = f": {before.note}" if before.note else ""
            self._gate.crashed(f"process {before.pid} ended while {before.state}{said}")
        elif before.state is ProcessState.STOPPED:
            # An operator wants it to try again.
            shard_pause.restarted(self.home, self._setting.shard)

    def obstacle(self) -> tuple[float, str]:
        """Return for how many seconds no instance may be started, and why; 0 when one may."""
        if wait := self._gate.wait:
            return wait, self._gate.words
        if self._refusal and (wait := self._refusal.left_s):
            return wait, self._refusal.words
        return 0.0, ""

    def record_hold(self) -> None:
        """Record that no instance is started for some time, if that is because of crashes."""
        if self._gate.wait:
            self._gate.held()

    def forget_crashes(self) -> None:
        """Let the next worker start an instance at once, however often this one crashed."""
        self._gate.open()

    async def start(self) -> bool:
        """Put a new backend in the place of the old one; return whether it answers a probe."""
        try:
            await self.backend.stop()
            self.backend = open_backend(self._kind, self._setting)
            async with asyncio.timeout(START_LIMIT_S):
                await self.backend.start()
                await self.backend.probe()
        except Unavailable as error:
            self._refusal = shard_pause.begin(
                self.home, self.name, failure_of(error), self._refusal
            )
        except TimeoutError:
            self.crashed(Broken(f"backend not ready within {START_LIMIT_S:.0f} s"))
        except (Exception, SystemExit) as error:  # a backend is foreign code
            log.warning("the instance does not start", exc_info=error)
            self.crashed(error)
        else:
            return True
        return False

    def ready(self) -> None:
        """Let requests in: the instance has started, and there are pipes."""
        self._gate.passed()
        if self._refusal:
            shard_pause.end(self.home, self._refusal)
            self._refusal = None
        self.note = ""
        self.keep_remarks()
        self.warm.set()
        log.info("ready: shard %s, backend %s", self._setting.shard, self._kind)

    async def probe(self) -> None:
        """Have the instance replaced if it cannot answer."""
        if not self.warm.is_set():
            return
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                await self.backend.probe()
        except Unavailable as error:
            log.info("the service refuses, as the next question will show: %s", error)
        except (Exception, SystemExit) as error:
            log.warning("the instance does not answer", exc_info=error)
            self.broke(error)

    def broke(self, error: BaseException) -> None:
        """Have the instance replaced as soon as it may be; requests wait for the new one."""
        if self.warm.is_set():
            self.warm.clear()
            self.crashed(error)
            self.on_broken()

    def crashed(self, error: BaseException) -> None:
        """Count a crash of the instance."""
        self.note = redact(named(error))
        self._gate.crashed(self.note)

    def keep_remarks(self) -> None:
        """Keep what the backend says about its files, for `status` and `health`, if it is new."""
        remarks = getattr(self.backend, "remarks", NOTHING)
        if remarks == self._remarks or not isinstance(remarks, Remarks):
            return
        try:
            keep(self.home.remarks / self.name, remarks)
        except OSError as error:
            log.warning("remarks on the files cannot be kept: %s", error)
        self._remarks = remarks
