"""What `status` and `health` say in every state that a home can be in: all of it true."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from scene import WORKERS, Scene

from autopoll.client import availability
from autopoll.errors import Exit
from autopoll.home import disk_space
from autopoll.ops import status as module
from autopoll.ops.health import health
from autopoll.ops.init import prepare
from autopoll.ops.status import status
from autopoll.process.heartbeat import ProcessState

ALL = ("poller", "watchdog", *WORKERS)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    prepare(made.home, made.config)
    monkeypatch.setattr(availability, "Supervisor", lambda *_: made)
    monkeypatch.setattr(module, "Supervisor", lambda *_: made)
    yield made
    made.close()


def all_well(scene: Scene) -> None:
    scene.lives(*ALL)


def no_poller(scene: Scene) -> None:
    scene.lives(*{*ALL} - {"poller"})
    scene.states["poller"] = "STOPPED"


def poller_given_up(scene: Scene) -> None:
    no_poller(scene)
    scene.states["poller"] = "FATAL"
    scene.says("poller", "bridge.db is damaged")


def poller_backs_off(scene: Scene) -> None:
    poller_given_up(scene)
    scene.states["poller"] = "BACKOFF"


def poller_held(scene: Scene) -> None:
    scene.lives(*ALL)
    scene.hearts["poller"].state = ProcessState.HELD
    scene.hearts["poller"].note = "no room to write bridge.db"


def one_worker(scene: Scene) -> None:
    scene.lives(*{*ALL} - {"worker"})
    scene.states["worker"] = "STOPPED"


def no_worker(scene: Scene) -> None:
    scene.lives("poller", "watchdog")
    scene.states |= dict.fromkeys(WORKERS, "STOPPED")


def no_watchdog(scene: Scene) -> None:
    scene.lives(*{*ALL} - {"watchdog"})
    scene.states["watchdog"] = "STOPPED"


def hung(scene: Scene) -> None:
    scene.lives(*ALL)
    scene.supervisord = "hung"


def down(scene: Scene) -> None:
    scene.supervisord = "down"


def no_table(scene: Scene) -> None:
    scene.lives(*ALL)
    database(scene, "DROP TABLE usage")


def newer(scene: Scene) -> None:
    scene.lives(*ALL)
    database(scene, "PRAGMA user_version=99")


def empty(scene: Scene) -> None:
    scene.lives(*ALL)
    for path in scene.home.var.glob("bridge.db*"):
        os.truncate(path, 0)


def database(scene: Scene, sql: str) -> None:
    with closing(apsw.Connection(str(scene.home.var / "bridge.db"))) as db:
        db.execute(sql)


STATES: dict[Callable[[Scene], None], tuple[int, int, str, str]] = {
    # -> exit code of status, of health, what fails in health, and a word of what that says
    all_well: (Exit.OK, Exit.OK, "", ""),
    no_poller: (Exit.FAILED, Exit.DOWN, "poller", "stopped"),
    poller_given_up: (Exit.FAILED, Exit.DOWN, "poller", "fatal: bridge.db is damaged"),
    poller_backs_off: (Exit.FAILED, Exit.DOWN, "poller", "backoff: bridge.db is damaged"),
    poller_held: (Exit.FAILED, Exit.DOWN, "poller", "held: no room to write bridge.db"),
    one_worker: (Exit.OK, Exit.FAILED, "worker", "stopped"),
    no_worker: (Exit.FAILED, Exit.DOWN, "shard main", "0 of 2 ready"),
    no_watchdog: (Exit.OK, Exit.FAILED, "watchdog", "stopped"),
    hung: (Exit.UNREACHABLE, Exit.UNREACHABLE, "supervisord", "is hung"),
    down: (Exit.DOWN, Exit.DOWN, "supervisord", "autopoll up"),
    no_table: (Exit.FAILED, Exit.FAILED, "database", "is damaged: it has no table usage"),
    newer: (Exit.FAILED, Exit.DOWN, "database", "newer schema version 99"),
    empty: (Exit.FAILED, Exit.DOWN, "database", "is empty: what was in it is lost"),
}


def name(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("make", "expected"), STATES.items(), ids=name)
def test_each_state_of_a_home_is_told_as_what_it_is(
    scene: Scene, make: Callable[[Scene], None], expected: tuple[int, int, str, str]
) -> None:
    make(scene)
    code, verdict, failing, words = expected
    now = status(scene.home, scene.config)
    assert now.exit_code == code
    assert now.ready == (code == Exit.OK)
    found = health(scene.home)
    assert found.exit_code == verdict
    assert (found.verdict == "ok") == all(check.ok for check in found.checks)
    failed = {check.name: check.detail for check in found.checks if not check.ok}
    if failing:
        assert words in failed[failing]
    else:
        assert not failed


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        ({"f_bavail": 3}, None, "12 kB free at {}: too little, at least 64 MB"),
        ({"f_bavail": 0}, None, "0 bytes free at {}: too little, at least 64 MB"),
        ({"f_favail": 0}, None, "no file can be made at {}: its file system has no inodes left"),
        ({}, "EDQUOT", "{} cannot be written: Disk quota exceeded"),
        ({}, "EROFS", "{} cannot be written: Read-only file system"),
        ({}, "EIO", "{} cannot be written: Input/output error"),
    ],
)
def test_a_disk_on_which_nothing_can_be_written_is_named_with_the_number(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, int],
    code: str | None,
    words: str,
) -> None:
    scene.lives(*ALL)
    disk(monkeypatch, facts, code)
    words = words.format(scene.home.var)
    now = status(scene.home, scene.config)
    assert (now.exit_code, now.problems) == (Exit.FAILED, [words])
    found = health(scene.home)
    assert found.verdict == "degraded"
    assert {check.name: check.detail for check in found.checks if not check.ok} == {"disk": words}


@pytest.mark.parametrize("code", ["EACCES", "EPERM", "EFBIG", "EOPNOTSUPP", "EISDIR", None])
def test_that_we_may_not_write_or_cannot_try_says_nothing_of_the_home(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, code: str | None
) -> None:
    scene.lives(*ALL)
    disk(monkeypatch, {"f_files": 0, "f_favail": 0} if code is None else {}, code)
    assert status(scene.home, scene.config).ready
    [check] = [check for check in health(scene.home).checks if check.name == "disk"]
    assert (check.ok, check.detail) == (True, f"410 MB free at {scene.home.var}")


def test_trying_to_write_leaves_nothing(scene: Scene) -> None:
    before = (sorted(scene.home.var.iterdir()), scene.home.var.stat().st_mtime_ns)
    assert disk_space.shortage(scene.home.var) == ""
    assert (sorted(scene.home.var.iterdir()), scene.home.var.stat().st_mtime_ns) == before


def disk(monkeypatch: pytest.MonkeyPatch, facts: dict[str, int], code: str | None) -> None:
    """Have every disk be as these facts say, and every try to write end with an error."""

    class Facts:
        f_frsize, f_bavail, f_files, f_favail = 4096, 100_000, 1000, 1000

    for key, value in facts.items():
        setattr(Facts, key, value)
    monkeypatch.setattr(disk_space.os, "statvfs", lambda _: Facts)
    true = os.write

    def write(file: int, data: bytes) -> int:
        if code and data == disk_space._PROBE:
            import errno

            number = getattr(errno, code)
            raise OSError(number, os.strerror(number))
        return true(file, data)

    monkeypatch.setattr(disk_space.os, "write", write)
