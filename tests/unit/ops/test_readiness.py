"""Who is ready, and who only looks so."""

from pathlib import Path

import pytest

from autopoll.errors import Down
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.readiness import wait_ready
from autopoll.process import heartbeat
from autopoll.process.heartbeat import ProcessState
from autopoll.process.heartbeat_writer import Heart
from autopoll.process.ready import missing

NAMES = ["watchdog", "worker", "poller"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home in which everybody seems to be idle, as one that was copied with its var/run."""
    home = Home(tmp_path)
    home.config.write_text('[shards.main]\nbackend = "echo"\n')
    home.make_private()
    for name in NAMES:
        with Heart.open(home.beats, name, name) as heart:
            heart.state = ProcessState.IDLE
            heart.beat()
            beat = (home.beats / name).read_bytes()
        (home.beats / name).write_bytes(beat)
    return home


def test_a_process_that_is_older_than_its_supervisord_is_not_one_of_its_own(home: Home) -> None:
    started = [beat.started for beat in heartbeat.read_all(home.beats)]
    assert missing(home, NAMES) == missing(home, NAMES, since=min(started)) == []
    assert missing(home, NAMES, since=max(started) + 1) == NAMES


def test_nobody_is_ready_before_there_is_a_supervisord(home: Home) -> None:
    with pytest.raises(Down, match="it has ended"):
        wait_ready(home, load(home, {}), lambda _: None, lambda: "it has ended")
