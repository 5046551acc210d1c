"""A process that beats and then behaves in one way: `patient.py HOME NAME BEHAVIOUR`."""

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from autopoll import logs
from autopoll.home import Home
from autopoll.process.heartbeat import Heart, State
from autopoll.process.lifeline import Lifeline

FOR_EVER = 3600


async def turn(heart: Heart, spell: Path) -> None:
    """Go round as a healthy loop does; while the file `spell` exists, stand still."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, stopping.set)
    Lifeline().attach(loop, stopping.set)
    while not stopping.is_set():
        heart.beat()
        while spell.exists():
            time.sleep(0.01)
        await asyncio.wait([loop.create_task(stopping.wait())], timeout=0.1)


def wait_for_ever_in_a_deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hold_the_interpreter() -> None:
    libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the interpreter lock
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)  # no signal ends this, as it would end a sleep


def spin() -> None:
    while True:
        pass


def behave(heart: Heart, behaviour: str, spell: Path) -> None:
    now = time.monotonic()

    def busy(seconds: float, work: Callable[[], object]) -> None:
        heart.begin(17, now + seconds)
        work()

    match behaviour:
        case "turn":
            asyncio.run(turn(heart, spell))
        case "turn-busy":
            busy(FOR_EVER, lambda: asyncio.run(turn(heart, spell)))
        case "overdue":
            busy(0.5, lambda: asyncio.run(turn(heart, spell)))
        case "overdue-deadlocked":
            busy(0.5, wait_for_ever_in_a_deadlock)
        case "deadlocked":
            wait_for_ever_in_a_deadlock()
        case "frozen":
            hold_the_interpreter()
        case "busy-sleeping":
            busy(FOR_EVER, lambda: time.sleep(FOR_EVER))
        case "busy-spinning":
            busy(FOR_EVER, spin)
        case "busy-holding":
            busy(FOR_EVER, hold_the_interpreter)
        case "crash":
            while not spell.exists():
                heart.beat()
                time.sleep(0.01)
            sys.exit(3)
        case _:
            raise ValueError(behaviour)


if __name__ == "__main__":
    root, name, behaviour = sys.argv[1:]
    home = Home(Path(root).resolve())
    logs.setup(home.log, name)
    with Heart.open(home.beats, name, "worker") as heart:
        heart.state = State.IDLE
        behave(heart, behaviour, home.run / f"{name}.spell")
