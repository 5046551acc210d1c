"""A process that beats and then behaves in one way: `dummy.py HOME NAME BEHAVIOUR`."""

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from autopoll.home import log_files
from autopoll.home.home import Home
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.lifeline import Lifeline
from autopoll.worker import reaper

FOR_EVER = 3600


async def turn(heart: Heart, block_file: Path) -> None:
    """Go round as a healthy loop does; while `block_file` exists, stand still."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, stopping.set)
    Lifeline().attach(loop, stopping.set)
    while not stopping.is_set():
        heart.beat()
        while block_file.exists():
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


def end_the_main_thread() -> None:
    """What is left reads "zombie" and lives."""
    numbers = {"x86_64": 60, "aarch64": 93}
    ctypes.CDLL(None).syscall(numbers[os.uname().machine], 0)


def sleep_uninterruptibly(block_file: Path) -> None:
    """Be in state D, which only KILL ends, or the end of `block_file`."""
    vfork = 0x4000 | signal.SIGCHLD  # without CLONE_VM: the child has a copy, and we wait for it
    numbers = {"x86_64": 56, "aarch64": 220}
    if ctypes.CDLL(None).syscall(numbers[os.uname().machine], vfork, 0, 0, 0, 0) == 0:
        while block_file.exists():
            time.sleep(0.01)
        os._exit(0)


def read_a_hung_disk() -> None:
    """Be in state D, which nothing ends before the disk $DISK answers."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.1)  # FUSE waits interruptibly, but only once
    os.open(f"{os.environ['DISK']}/file", os.O_RDONLY)


async def turn_and_reap(heart: Heart, block_file: Path) -> None:
    reaper.attach(asyncio.get_running_loop())
    await turn(heart, block_file)


def forget_a_child() -> None:
    os.posix_spawn("/bin/true", ["true"], {})


def start_a_forgetful_child() -> None:
    subprocess.Popen([sys.executable, "-c", "import os, time; os.posix_spawn('/bin/true', ['true'],"
                      " {}); time.sleep(3600)"])  # fmt: skip


def start_children() -> None:
    """One that is polite, one that ignores TERM, and one whose parent and session are gone."""
    sleep = "import time; time.sleep(3600)"
    deaf = f"import signal; signal.signal(15, signal.SIG_IGN); {sleep}"
    stray = f"import os; os.fork() and os._exit(0); os.setsid(); {deaf}"
    for code in (sleep, deaf, stray):
        subprocess.Popen([sys.executable, "-c", code], process_group=0)
    os.wait()  # the first to end is the parent of the stray


def use_up_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    for _ in range(80):
        os.dup(2)


def behave(heart: Heart, behaviour: str, block_file: Path) -> None:
    now = time.monotonic()

    def busy(seconds: float, work: Callable[[], object]) -> None:
        heart.begin(17, now + seconds)
        work()

    match behaviour:
        case "turn":
            asyncio.run(turn(heart, block_file))
        case "turn-busy":
            busy(FOR_EVER, lambda: asyncio.run(turn(heart, block_file)))
        case "overdue":
            busy(0.5, lambda: asyncio.run(turn(heart, block_file)))
        case "overdue-deadlocked":
            busy(1.5, wait_for_ever_in_a_deadlock)
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
        case "headless":
            end_the_main_thread()
        case "headless-busy":
            busy(FOR_EVER, end_the_main_thread)
        case "blocked":
            sleep_uninterruptibly(block_file)
        case "blocked-busy":
            busy(FOR_EVER, lambda: sleep_uninterruptibly(block_file))
            asyncio.run(turn(heart, block_file))
        case "reads-a-hung-disk":
            read_a_hung_disk()
        case "overdue-reads-a-hung-disk":
            busy(1.5, read_a_hung_disk)
        case "forgets-a-child":
            forget_a_child()
            asyncio.run(turn_and_reap(heart, block_file))
        case "forgets-a-child-for-good":
            forget_a_child()
            asyncio.run(turn(heart, block_file))
        case "has-a-forgetful-child":
            start_a_forgetful_child()
            asyncio.run(turn_and_reap(heart, block_file))
        case "leaks-descriptors":
            start_children()
            use_up_descriptors()
            asyncio.run(turn(heart, block_file))
        case "leaks-and-stays":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            start_children()
            use_up_descriptors()
            while True:
                heart.beat()
                time.sleep(0.1)
        case "large":
            memory = bytearray(os.urandom(2**20) * 100)
            asyncio.run(turn(heart, block_file))
            del memory
        case "crash":
            while not block_file.exists():
                heart.beat()
                time.sleep(0.01)
            sys.exit(3)
        case _:
            raise ValueError(behaviour)


if __name__ == "__main__":
    root, name, behaviour = sys.argv[1:]
    home = Home(Path(root).resolve())
    log_files.setup(home.log, name)
    with Heart.open(home.beats, name, "worker") as heart:
        heart.state = ProcessState.IDLE
        block_file = home.run / f"{name}.block"
        if behaviour.startswith("blocked"):
            block_file.touch()
        behave(heart, behaviour, block_file)
