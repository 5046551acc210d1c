"""Real processes and what they hold."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from adoption import adopting
from place import until

from autopoll.process import orphans
from autopoll.process.proc_stat import read_stat
from autopoll.watchdog.footprint import Footprint, FootprintReader

SLEEP = "import time; print(flush=True); time.sleep(3600)"
# Starts a child, which starts another, which leaves a zombie and has 200 MB.
FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork():
        time.sleep(3600)
os.posix_spawn("/bin/true", ["true"], {})
memory = os.urandom(2**20) * 200
print(flush=True)
time.sleep(3600)
"""
GREEDY = f"""
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
if os.fork() == 0:
    for _ in range(30): os.dup(1)
    {SLEEP}
import time; time.sleep(3600)
"""
# Has a child whose first thread has ended while another lives on: it reads as a zombie.
HEADLESS = """
import ctypes, os, threading, time
if os.fork() == 0:
    threading.Thread(target=lambda: print(flush=True) or time.sleep(3600)).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
time.sleep(3600)
"""
# Leaves a daemon, an orphan, in a session of its own; the daemon has a child too.
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.01)
    if os.fork():
        print(flush=True)
    time.sleep(3600)
os.wait()
time.sleep(3600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """The mark of a home of its own, whose orphans this process adopts."""
    home = str(tmp_path / "conf")
    with adopting():
        yield home
        orphans.sweep({"AUTOPOLL_SUPERVISED": home}, grace=0.0)


def start(home: str, code: str, name: str = "worker") -> int:
    """Start a process and wait until it has printed a line."""
    marks = {"AUTOPOLL_SUPERVISED": home, "AUTOPOLL_INSTANCE": name}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=marks)
    assert process.stdout
    with process.stdout:
        process.stdout.readline()
    return process.pid


def footprint_of(home: str, pid: int, name: str = "worker") -> Footprint:
    return FootprintReader(home, [os.getpid()]).read({pid: name}, time.monotonic())[pid]


def test_a_process_holds_as_much_as_all_it_has_started(home: str) -> None:
    alone, head = start(home, SLEEP), start(home, FAMILY, "father")
    assert footprint_of(home, alone).descendants == ()
    seen = footprint_of(home, head, "father")
    assert 200e6 < seen.rss_bytes < 300e6
    assert len(seen.descendants) == 2
    until(lambda: footprint_of(home, head, "father").zombies)
    [zombie] = footprint_of(home, head, "father").zombies
    assert zombie.name == "true"
    assert zombie.parent in {each.pid for each in seen.descendants}


def test_a_child_that_lives_in_other_threads_than_its_first_is_no_zombie(home: str) -> None:
    head = start(home, HEADLESS)
    [child] = footprint_of(home, head).descendants
    until(lambda: (reading := read_stat(child.pid)) and reading.state == "Z")
    assert [each.pid for each in footprint_of(home, head).descendants] == [child.pid]
    assert footprint_of(home, head).zombies == frozenset()


def test_what_has_left_the_tree_is_known_by_its_mark(home: str) -> None:
    head = start(home, DAEMON)
    assert len(footprint_of(home, head).descendants) == 2
    assert footprint_of(home, head, "another").descendants == ()
    assert footprint_of(f"{home}/other", head).descendants == ()


def test_the_environment_of_a_stray_is_read_once(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, head = FootprintReader(home, [os.getpid()]), start(home, DAEMON)
    assert len(reader.read({head: "worker"}, 0.0)[head].descendants) == 2
    monkeypatch.setattr(orphans, "environment", None)
    assert len(reader.read({head: "worker"}, 0.0)[head].descendants) == 2


def test_the_descriptors_are_those_of_the_process_nearest_to_its_own_limit(home: str) -> None:
    head = start(home, GREEDY)
    seen = footprint_of(home, head)
    assert (seen.fds, seen.fd_limit) == (33, 50)
    assert [seen.fd_holder] == [each.pid for each in seen.descendants]


def test_what_is_gone_holds_nothing(home: str) -> None:
    assert FootprintReader(home, [os.getpid()]).read({2**22 + 1: "worker"}, 0.0) == {}
