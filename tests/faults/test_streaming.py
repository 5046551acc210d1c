"""An answer while it is being written: shown as it comes, never twice, and a sign of life."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from place import Place, until

from autopoll.process import incident_log

TELLER = Path(__file__).parent.parent / "data" / "teller.py"
CONFIG = f"""
[shards.main]
backend = "command"
progress_timeout = "2s"
[shards.main.options]
command = ['{sys.executable}', '{TELLER}']
ready = true
"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A command of autopoll on a terminal of its own."""

    def __init__(self, place: Place, *args: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [*place.command, *args],
            cwd=place.root, env=place.environ, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def shows(self, text: str) -> str:
        """Wait until the text stands there, and return all that does."""
        return until(lambda: self._read() and text in self.seen and self.seen, 20, repr(text))

    def ends(self) -> str:
        """Wait for the end and return all that was printed."""
        code = until(lambda: self._read() and self.process.poll() is not None, 20)
        assert code is not None
        self._read()
        return self.seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self) -> bool:
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                break
            self.seen += CONTROL.sub("", data.decode())
        return True


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("streaming") / "home", CONFIG).running() as place:
        yield place


class Scene:
    """A home whose backend says what it is told to say, and the terminals of a test."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.terminals: list[Terminal] = []
        place.ready("poller", "worker")
        (place.root / "told").write_text("")
        (place.root / "done").write_text("0")
        place.home.incidents.unlink(missing_ok=True)

    def tell(self, **fields: Any) -> None:
        with (self.place.root / "told").open("a") as file:
            file.write(json.dumps(fields) + "\n")

    def terminal(self, *args: str) -> Terminal:
        self.terminals.append(Terminal(self.place, *args))
        return self.terminals[-1]

    def number(self) -> int:
        """Return the number of the question that is in hand."""
        self.place.busy("worker")
        with closing(self.place.bridge()) as bridge:
            return bridge.messages.find(waiting=True, kind="query")[-1].id

    def state(self, number: int) -> str:
        return str(self.place.json("answer", str(number), "--no-wait")["status"])


@pytest.fixture
def scene(running: Place) -> Iterator[Scene]:
    scene = Scene(running)
    yield scene
    for terminal in scene.terminals:
        terminal.close()


def test_pieces_are_shown_before_the_answer_is_settled_and_nothing_twice(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="It is\n")
    scene.tell(piece="done by ")
    asking.shows("done by ")
    assert scene.state(scene.number()) == "pending"
    scene.tell(piece="hand ")
    asking.shows("hand ")
    scene.tell(answer="It is\ndone by hand alone.", sources=["a.md:1-2"])
    assert asking.ends() == "It is\ndone by hand alone.\n\nSources: a.md:1-2\n"


def test_an_answer_that_differs_from_its_pieces_is_printed_anew_under_a_line(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="By hand [no.md:1-2] ")
    asking.shows("By hand [no.md:1-2] ")
    scene.tell(answer="By hand")
    assert asking.ends() == "By hand [no.md:1-2] \n--- the answer\nBy hand\n"


def test_another_attempt_begins_anew_for_all_to_see(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="Perhaps by ")
    asking.shows("Perhaps by ")
    scene.tell(die=True)
    asking.shows("--- broken off")
    scene.tell(piece="By hand ")
    asking.shows("By hand ")
    scene.tell(answer="By hand it is")
    seen = asking.ends()
    last = "--- attempt 2, from the beginning\nBy hand it is\n"
    assert seen.startswith("Perhaps by \n--- broken off\n") and seen.endswith(last)
    assert seen.count("Perhaps") == seen.count("By hand") == 1


def test_what_a_killed_poller_kept_is_gone_and_the_answer_shown_anew(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="Perhaps by ")
    asking.shows("Perhaps by ")
    number = scene.number()
    dead = scene.place.kill("poller")
    until(lambda: (beat := scene.place.beat("poller")) and beat.pid != dead, what="a new poller")
    scene.tell(piece="By hand ")
    asking.shows("By hand ")
    assert scene.number() == number
    scene.tell(answer="By hand it is")
    last = "--- attempt 1, from the beginning\nBy hand it is\n"
    assert asking.ends().endswith(last)


def test_an_error_after_pieces_stands_on_a_line_of_its_own(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="Well, ")
    asking.shows("Well, ")
    scene.tell(error="no idea")
    assert re.fullmatch(r"Well, \nautopoll: question \d+ failed: no idea\n", asking.ends())
    assert asking.process.returncode == 1


def test_who_comes_later_follows_the_answer_too_and_who_leaves_can_come_back(scene: Scene) -> None:
    asking = scene.terminal("ask", "how?")
    scene.tell(piece="It is done ")
    asking.shows("It is done ")
    number = scene.number()
    asking.process.send_signal(signal.SIGINT)
    assert "It is done \n\nautopoll: interrupted" in asking.ends()
    following = scene.terminal("answer", str(number))
    following.shows("It is done ")
    scene.tell(piece="by ")
    following.shows("It is done by ")
    scene.tell(answer="It is done by hand")
    assert following.ends() == "It is done by hand\n"


@pytest.mark.parametrize("args", [(), ("--json",)])
def test_what_is_no_terminal_or_wants_json_gets_the_answer_and_nothing_before(
    scene: Scene, args: tuple[str, ...]
) -> None:
    asking = subprocess.Popen(
        [*scene.place.command, "ask", "how?", *args],
        cwd=scene.place.root, env=scene.place.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    scene.tell(piece="It is done ")
    scene.number()
    scene.tell(answer="It is done by hand")
    out, _ = asking.communicate(timeout=20)
    assert out.count("It is done") == 1
    assert (json.loads(out)["answer"] if args else out.rstrip()) == "It is done by hand"


@pytest.mark.long
def test_pieces_are_progress_and_a_stream_that_stalls_is_not(scene: Scene) -> None:
    asking = scene.place.start_ask("how?")
    began = time.monotonic()
    scene.tell(pieces=25, every=0.3)
    beat = scene.place.busy("worker")
    until(lambda: (now := scene.place.beat("worker")) and now.progress >= beat.progress + 20)
    assert time.monotonic() - began > 5  # longer than progress_timeout and its grace
    assert scene.place.pid("worker") == beat.pid
    # Then it stalls, is killed, and the question is asked again.
    until(lambda: (now := scene.place.beat("worker")) and now.pid != beat.pid)
    scene.tell(answer="by hand")
    out, _ = asking.communicate(timeout=30)
    assert (json.loads(out)["answer"], json.loads(out)["attempts"]) == ("by hand", 2)
    found = [each for each in incident_log.read(scene.place.home.incidents) if each.pid == beat.pid]
    assert [(each.verdict, each.action) for each in found] == [("no-progress", "killed")]
