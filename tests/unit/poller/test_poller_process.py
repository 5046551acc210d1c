"""The poller waits for the server of its bridge, and lets itself be ended meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from autopoll.bridge.protocols import Bridge
from autopoll.errors import BridgeError, BridgeUnavailable
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.poller import poller_process as module
from autopoll.poller.poller_process import open_when_reached
from autopoll.process import signals
from autopoll.process.heartbeat import read
from autopoll.process.heartbeat_writer import Heart

AWAY = BridgeUnavailable("the server of the bridge does not answer", "Start it.")


class Scene:
    """A server that is away for some tries."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.home.make_private()
        self.home.config.write_text("[shards.main]\nbackend = 'echo'\n")
        self.tries: list[BridgeError | None] = []
        self.seen: list[tuple[str, str]] = []

    def connect(self, _home: Home, _config: Config) -> object:
        if (beat := read(self.home.beats / "poller")) is not None:
            self.seen.append((beat.state.value, beat.note))
        if error := self.tries.pop(0):
            raise error
        return "the bridge"

    def open(self) -> Bridge | None:
        with Heart.open(self.home.beats, "poller", "poller") as heart:
            bridge = open_when_reached(self.home, load(self.home, {}), heart)
            self.left = heart.state.value
            return bridge


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path)
    monkeypatch.setattr(module, "connect", made.connect)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    signals.hold_back()
    yield made
    signals.let_in()


def test_a_server_that_is_away_is_waited_for_and_the_reason_is_shown(scene: Scene) -> None:
    scene.tries = [AWAY, AWAY, None]
    assert scene.open() == "the bridge"  # type: ignore[comparison-overlap]
    assert scene.seen[0][0] == "starting"
    assert set(scene.seen[1:]) == {("held", AWAY.what)}
    assert scene.left == "starting"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whoever_ends_or_reloads_it_meanwhile_need_not_wait(
    scene: Scene, number: signal.Signals
) -> None:
    scene.tries = [AWAY, AWAY]
    signal.raise_signal(number)
    assert scene.open() is None
    assert len(scene.tries) == 1


def test_it_ends_with_supervisord(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    os.close(far)
    scene.tries = [AWAY, AWAY]
    lifeline = module.Lifeline
    monkeypatch.setattr(module, "Lifeline", lambda: lifeline(near))
    assert scene.open() is None
    os.close(near)


def test_what_another_try_would_not_change_is_raised(scene: Scene) -> None:
    scene.tries = [AWAY, BridgeError("it is of a newer version", "Upgrade.")]
    with pytest.raises(BridgeError, match="newer version"):
        scene.open()
