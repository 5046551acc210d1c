"""A poller that becomes other code while answers are in flight: none is lost, or asked twice."""

import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hosts import home_on
from place import Place, until

import autopoll
import fifo
from autopoll.process.signals import HAND_OVER

GATED = Path(__file__).parent.parent / "data" / "gated.py"
SHARDS = f"""
[shards.main]
backend = "echo"

[shards.slow]
backend = "command"
options = {{ command = ['{sys.executable}', '{GATED}'] }}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a copy of the packages, as an installation has one."""
    for package in (autopoll, fifo):
        source = Path(package.__file__).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, tmp_path / "site" / source.name, ignore=ignored)
    return tmp_path / "site"


@pytest.fixture
def new_home(new_place: Callable[..., Place], site: Path) -> Callable[[], Place]:
    """A home that runs the code of `site`."""

    def make() -> Place:
        place = new_place(SHARDS)
        place.environ["PYTHONPATH"] = str(site)
        place.run("up")
        return place

    return make


def change(site: Path, module: str, before: str, after: str) -> None:
    """Put other code in the place of what is installed."""
    file = site / module
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def hand_over(place: Place) -> None:
    """Have the poller become what is installed, and wait until it has."""
    starts = place.beat("poller").starts
    place.kill("poller", HAND_OVER)
    until(lambda: (beat := place.beat("poller")) and beat.starts > starts, what="the successor")
    place.ready("poller")


def log_of(place: Place) -> str:
    return (place.home.log / "poller.log").read_text()


def test_an_answer_in_flight_is_written_once_by_the_successor_under_its_first_attempt(
    new_home: Callable[[], Place], site: Path
) -> None:
    place = new_home()
    pid, worker = place.pid("poller"), place.pid("worker-slow-1")
    asking = place.start_ask("long?", "--shard", "slow")
    place.busy("worker-slow-1")
    change(site, "autopoll/__init__.py", autopoll.__version__, "99.1.0")
    hand_over(place)
    assert (place.beat("poller").version, place.beat("poller").crashed) == ("99.1.0", 0)
    assert (place.pid("poller"), place.pid("worker-slow-1")) == (pid, worker)
    assert place.ask("short?")["answer"] == "short?"
    (place.root / "go").touch()
    out, _ = asking.communicate(timeout=60)
    assert '"attempts":1' in out.replace(" ", "")
    assert place.json_lines("incidents") == []
    assert place.ask("again?", "--shard", "slow")["attempts"] == 1
    shown = place.json("status")
    assert shown["ready"]
    assert shown["queue"]["leased"] == 0


def test_questions_of_every_conversation_are_answered_once_through_many_successors(
    new_home: Callable[[], Place],
) -> None:
    place = new_home()
    (place.root / "go").touch()
    outcomes: list[tuple[int, str]] = []
    over = threading.Event()

    def keep_asking(shard: str) -> None:
        while not over.is_set():
            done = place.run("ask", "--json", "--shard", shard, "now?", code=None)
            outcomes.append((done.returncode, done.stdout + done.stderr))

    asking = [threading.Thread(target=keep_asking, args=(name,)) for name in ("main", "slow")]
    for each in asking:
        each.start()
    try:
        for _ in range(5):
            seen = len(outcomes)
            hand_over(place)
            until(lambda seen=seen: len(outcomes) > seen + 1, what="answers by the successor")
    finally:
        over.set()
        for each in asking:
            each.join()
    assert [text for code, text in outcomes if code or '"attempts":1' not in text] == []
    with closing(place.bridge()) as bridge:
        messages = bridge.messages.find(limit=10_000)
    assert len([each for each in messages if each.sender == "b"]) == len(outcomes)
    assert place.json_lines("incidents") == []


def test_code_that_does_not_start_is_not_taken_up(
    new_home: Callable[[], Place], site: Path
) -> None:
    place = new_home()
    asking = place.start_ask("long?", "--shard", "slow")
    place.busy("worker-slow-1")
    change(site, "autopoll/poller/replies.py", "class Replies", "clas Replies")
    place.kill("poller", HAND_OVER)
    until(lambda: "SyntaxError: invalid syntax" in log_of(place), what="the reason in the log")
    assert place.beat("poller").starts == 1
    assert place.run("ask", "short?").returncode == 0
    (place.root / "go").touch()
    out, _ = asking.communicate(timeout=60)
    assert '"attempts":1' in out.replace(" ", "")


def test_what_the_successor_cannot_read_is_asked_again_and_answered_once(
    new_home: Callable[[], Place], site: Path
) -> None:
    place = new_home()
    asking = place.start_ask("long?", "--shard", "slow")
    place.busy("worker-slow-1")
    change(site, "autopoll/poller/hand_over.py", "FORMAT = 1 ", "FORMAT = 2 ")
    hand_over(place)
    assert "cannot be taken up: it is of format 1, and this is 2" in log_of(place)
    (place.root / "go").touch()
    out, _ = asking.communicate(timeout=60)
    assert '"status":"answered"' in out.replace(" ", "")
    assert place.ask("again?", "--shard", "slow")["status"] == "answered"
    with closing(place.bridge()) as bridge:
        messages = bridge.messages.find(limit=100)
    assert len([each for each in messages if each.sender == "b"]) == 2


def test_other_settings_of_the_bridge_have_the_poller_drain_and_start_anew(
    new_home: Callable[[], Place],
) -> None:
    place = new_home()
    pid = place.pid("poller")
    config = place.root / "autopoll.toml"
    config.write_text(config.read_text() + "[delivery]\nmax_attempts = 7\n")
    place.kill("poller", HAND_OVER)
    until(lambda: (beat := place.beat("poller")) and beat.pid != pid, what="another process")
    place.ready("poller")
    assert place.ask("and now?")["status"] == "answered"


def test_leases_on_a_server_go_over_to_the_successor(tmp_path: Path, database: str) -> None:
    place = home_on(tmp_path / "home", database, SHARDS)
    with place.running():
        asking = place.start_ask("long?", "--shard", "slow")
        place.busy("worker-slow-1")
        hand_over(place)
        (place.root / "go").touch()
        out, _ = asking.communicate(timeout=60)
        assert '"attempts":1' in out.replace(" ", "")
        assert place.json_lines("incidents") == []


def test_the_deadline_of_what_is_in_flight_goes_on(new_home: Callable[[], Place]) -> None:
    place = new_home()
    config = place.root / "autopoll.toml"
    text = config.read_text().replace("[shards.slow]", '[shards.slow]\nrequest_timeout = "3s"')
    config.write_text(text + "[delivery]\nmax_attempts = 1\n")
    place.run("reload")
    place.ready("poller", "worker-slow-1")
    asking = place.start_ask("too long?", "--shard", "slow")
    place.busy("worker-slow-1")
    hand_over(place)
    out, _ = asking.communicate(timeout=60)
    assert '"status":"error"' in out.replace(" ", "")
    assert "deadline" in out


def test_what_shows_its_stacks_goes_on_as_it_is(new_home: Callable[[], Place]) -> None:
    place = new_home()
    before = place.beat("poller")
    assert "poller_process" in place.json("doctor", "--stacks", "poller")["stacks"]
    assert place.ask("and now?")["status"] == "answered"
    assert place.beat("poller").starts == before.starts
