"""A home whose code is replaced while questions come: `reload` takes it up, and none waits long."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, until

import autopoll
import fifo

CONFIG = """
[shards.main]
backend = "echo"
instances = 2

[shards.other]
backend = "echo"
"""
START_S = 8.0  # of a worker on a loaded machine, and a margin
NEW = "99.1.0"

pytestmark = pytest.mark.long


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a copy of the packages, as an installation has one."""
    for package in (autopoll, fifo):
        source = Path(package.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, tmp_path / "site" / source.name, ignore=ignored)
    return tmp_path / "site"


@pytest.fixture
def place(tmp_path: Path, site: Path) -> Iterator[Place]:
    place = Place(tmp_path / "home", CONFIG)
    place.environ["PYTHONPATH"] = str(site)
    with place.running():
        yield place


def install(site: Path, version: str) -> None:
    """Put another version in the place of the installed one."""
    file = site / "autopoll" / "__init__.py"
    text = file.read_text()
    assert autopoll.__version__ in text
    file.write_text(text.replace(autopoll.__version__, version))


def versions(place: Place) -> dict[str, str]:
    return {each["name"]: each["version"] for each in place.json("status")["processes"]}


def test_a_reload_takes_up_new_code_while_questions_are_answered(place: Place, site: Path) -> None:
    assert set(versions(place).values()) == {autopoll.__version__}
    pids = {name: place.pid(name) for name in ("poller", "worker", "worker-main-2", "watchdog")}
    waits: list[float] = []
    failed: list[str] = []
    over = threading.Event()

    def keep_asking(shard: str) -> None:
        while not over.is_set():
            began = time.monotonic()
            done = place.run("ask", "--json", "--shard", shard, "and now?", code=None)
            waits.append(time.monotonic() - began)
            if done.returncode:
                failed.append(done.stdout + done.stderr)

    asking = [threading.Thread(target=keep_asking, args=(name,)) for name in ("main", "other")]
    for each in asking:
        each.start()
    try:
        until(lambda: len(waits) >= 2, what="the first answers")
        install(site, NEW)
        assert NEW in place.run("--version").stdout
        text = place.run("status").stdout
        assert "another; take it up with: autopoll reload" in text
        done = place.json("reload")
        assert (done["changed"], done["poller"]) == (["main", "other"], "in place")
        until(lambda: set(versions(place).values()) == {NEW}, what="the new version in all")
        before = len(waits)
        until(lambda: len(waits) >= before + 2, what="answers by the new version")
    finally:
        over.set()
        for each in asking:
            each.join()
    assert failed == []
    assert max(waits) < START_S, sorted(waits)[-3:]
    poller = pids.pop("poller")
    assert place.pid("poller") == poller, "it becomes its own successor"
    assert all(place.pid(name) != pid for name, pid in pids.items())
    assert "supervisord: " + autopoll.__version__ in place.run("status").stdout
    assert [each for each in place.json_lines("incidents") if each["action"] == "killed"] == []
    place.run("restart")
    assert place.json("status")["supervisord_version"] == NEW
