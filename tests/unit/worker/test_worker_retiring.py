"""A worker that is to be replaced takes nothing new, whatever becomes of its instance."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from autopoll.backends.contract import Broken
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.process.heartbeat import ProcessState, read
from autopoll.process.heartbeat_writer import Heart
from autopoll.request import Request, write
from autopoll.worker.instance import Instance
from autopoll.worker.phases import WorkerPhase
from autopoll.worker.worker import Worker
from fifo.client_end import ClientEnd
from fifo.events import ClientEvent, FailureReceived

CONFIG = '[shards.main]\nbackend = "echo"\noptions = {concurrency = 2, delay = "60s"}\n'
ASKED = write(
    Request(delivery=1, fence=1, attempt=1, timeout_ms=60_000, conversation="c", question="?")
)


class Scene:
    """A worker that serves in this loop, and the poller's end of its pipes."""

    def __init__(self, home: Home, heart: Heart) -> None:
        config = load(home, {})
        self.instance = Instance(home, config, "main", "worker")
        self.worker = Worker(config, "main", self.instance, heart)
        self.events: list[ClientEvent] = []
        self.client = ClientEnd(home.workers / "worker", on_event=self.events.append)
        self.shown: list[ProcessState] = []
        self._heart = heart
        self._enter = self.worker.enter
        self.worker.enter = self._noted  # type: ignore[method-assign]

    def _noted(self, phase: WorkerPhase) -> None:
        self._enter(phase)
        self.shown.append(self._heart.state)

    async def begin_one(self) -> None:
        """Connect, and have one of two slots taken."""

        def connected() -> bool:
            self.client.poke()
            return self.client.free == 2

        await until(connected)
        self.client.request(1, ASKED)
        await until(lambda: self._heart.state is ProcessState.BUSY)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def test_a_worker_that_retires_takes_nothing_new_while_its_instance_is_replaced(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.make_private()
    home.config.write_text(CONFIG)

    async def run(heart: Heart) -> None:
        scene = Scene(home, heart)
        worker, client = scene.worker, scene.client
        running = asyncio.create_task(worker.run())
        await scene.begin_one()
        worker.reason_to_retire = lambda: "it is old"  # type: ignore[method-assign]
        worker.retire_if_due()
        await until(lambda: client.free == 0)
        scene.instance.broke(Broken("as it happens"))
        assert worker.phase is WorkerPhase.REPLACING
        await until(scene.instance.warm.is_set)
        await until(lambda: worker.phase is not WorkerPhase.REPLACING)
        assert (worker.phase, client.free) == (WorkerPhase.RETIRING, 0)
        assert not running.done(), "one request is in flight"
        client.cancel(1)
        await running
        client.close()
        assert [each.request_id for each in scene.events if isinstance(each, FailureReceived)] == [
            1
        ]
        assert scene.shown == [
            ProcessState.STARTING,
            ProcessState.IDLE,
            ProcessState.DRAINING,
            ProcessState.STARTING,
            ProcessState.DRAINING,
            ProcessState.DRAINING,
        ]

    with Heart.open(home.beats, "worker", "worker") as heart:
        asyncio.run(run(heart))
    beat = read(home.beats / "worker")
    assert beat and (beat.state, beat.note) == (ProcessState.RETIRED, "it is old")
