"""Workers and instances that die again and again: held back, said why, and back when mended."""

import os
import shutil
import signal
import time

import pytest
from moods import CONFIG, answered, held, hold, incidents, kept, set_mood, states
from place import Place, until

from autopoll.home.config import load
from autopoll.ops.health import health
from autopoll.ops.status import Process, status

pytestmark = pytest.mark.long

CALM_S = 60.0


@pytest.mark.parametrize(
    ("mood", "reason"),
    [
        ("dies at start", "no licence"),
        ("kills its worker after 0.4", "ended while"),
        ("kills its worker after 5", "ended while idle"),
    ],
)
def test_what_dies_again_and_again_is_held_keeps_its_questions_and_comes_back_when_mended(
    new_place, mood, reason
) -> None:
    place: Place = new_place(CONFIG)
    place.run("up")
    set_mood(place, mood)
    place.kill("worker")

    def look() -> list[int] | None:
        """Mend the cause and ask while it is held; None when it was tried again meanwhile."""
        note = hold(place)
        set_mood(place, "")
        questions = kept(place, "one?", "two?", "three?")
        now, seen = states(place, questions), place.beat("worker")
        if not seen or (seen.state, seen.note) != ("held", note):
            set_mood(place, mood)
            return None
        assert note.startswith("held for ") and " crashes in " in note and reason in note
        assert now <= {("sent", 0), ("ready", 0)}
        return questions

    answered(place, until(look, 60, "a look at the held worker"), CALM_S)
    place.ready("worker")
    held_once = incidents(place, verdict="crash-loop", action="held")
    assert reason in held_once[-1]["evidence"] and held_once[-1]["recovered_ms"] > 0


def test_an_instance_that_breaks_at_every_question_is_held_and_the_next_question_is_kept(
    new_place,
) -> None:
    place: Place = new_place(CONFIG)
    place.run("up")
    worker = place.pid("worker")
    set_mood(place, "breaks")
    poison = kept(place, *(f"poison {number}?" for number in range(8)))
    assert "out of memory" in hold(place)
    good = kept(place, "good?")
    set_mood(place, "")
    answered(place, good)
    until(lambda: {state for state, _ in states(place, poison)} == {"done"}, 30)
    assert place.pid("worker") == worker, "the instance was replaced, and not the worker"


QUITTER = """
import sys
from autopoll.backends.echo import Echo

class Quitter(Echo):
    def __init__(self, setting):
        super().__init__(setting)
        self.mood = setting.root / "mood"

    async def start(self):
        if self.mood.read_text() == "quits":
            sys.exit(1)
        await super().start()
"""


def test_a_backend_that_ends_the_process_at_its_start_is_held_in_the_same_process(
    new_place, tmp_path
) -> None:
    package = tmp_path / "package"
    facts = package / "quitter-1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Name: quitter\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[autopoll.backends]\nquitter = quitter:Quitter\n")
    (package / "quitter.py").write_text(QUITTER)
    place: Place = new_place()
    (place.root / "autopoll.toml").write_text('[shards.main]\nbackend = "quitter"\n')
    paths = [str(package), place.environ.get("PYTHONPATH", "")]
    place.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    set_mood(place, "")
    place.run("up")
    set_mood(place, "quits")
    place.kill("worker")
    assert "SystemExit: 1" in hold(place)
    set_mood(place, "")
    answered(place, kept(place, "still there?"))
    beat = place.beat("worker")
    assert beat and beat.starts == 2, "the one that was killed, and the one that tried again"


def test_a_held_worker_is_named_with_its_reason_and_obeys(new_place) -> None:
    place: Place = new_place(CONFIG)
    place.run("up")
    set_mood(place, "dies at start")
    place.kill("worker")
    # A pause that is long enough to look at everything in it.
    until(lambda: any(f"held for {n} s" in hold(place) for n in range(2, 9)), 60)
    note, now, well = hold(place), status(place.home, load(place.home, {})), health(place.home)
    [worker] = [each for each in now.processes if each.name == "worker"]
    assert (worker.state, worker.note) == ("held", note)
    assert now.shards[0].paused == note and not now.ready
    assert (well.verdict, now.exit_code, well.exit_code) == ("degraded", 1, 1)
    named = [each.name for each in well.checks if note in each.detail and not each.ok]
    assert named == ["worker", "shard main"]

    until(lambda: any(f"held for {n} s" in hold(place) for n in range(3, 20)), 60)
    note, old = hold(place), place.kill("worker")
    until(lambda: (beat := held(place)) and beat.pid != old)
    assert hold(place) == note, "to die while held is no failed trial"

    refused = place.run("restart", "worker", code=2)
    assert "worker does not start: held for 1 s" in refused.stderr, "tried at once, and anew"
    assert "no licence" in refused.stderr
    set_mood(place, "")
    hold(place)
    began = time.monotonic()
    place.run("restart", "worker")
    assert time.monotonic() - began < 10
    assert place.ask("well again?")["answer"] == "you asked: well again?"

    set_mood(place, "dies at start")
    place.kill("worker")
    hold(place)
    os.kill(place.supervisord(), signal.SIGKILL)
    until(lambda: not place.processes(), 10, "everything to end")


def test_who_is_restarted_in_the_middle_of_a_trial_begins_anew(new_place) -> None:
    place: Place = new_place(CONFIG)
    place.run("up")
    set_mood(place, "dies at start")
    place.kill("worker")
    until(lambda: any(f"held for {n} s" in hold(place) for n in range(3, 9)), 60)
    set_mood(place, "takes long to start")
    until(lambda: not (place.root / "mood").exists())
    set_mood(place, "dies at start")
    refused = place.run("restart", "worker", code=2)
    assert "worker does not start: held for 1 s" in refused.stderr


def test_a_history_that_cannot_be_read_keeps_nobody_from_starting(new_place) -> None:
    place: Place = new_place()
    place.run("up")
    history = place.home.gates / "worker"
    for spoil in (lambda: history.write_bytes(b"\0\xff"), lambda: os.mkfifo(history)):
        history.unlink(missing_ok=True)
        spoil()
        old = place.kill("worker")
        until(lambda old=old: (b := place.beat("worker")) and b.pid != old and b.state == "idle")
    shutil.rmtree(place.home.gates)
    assert place.ask("there?")["answer"] == "there?"


def test_a_backend_that_is_configured_wrong_stays_down_is_named_and_starts_when_told(
    new_place,
) -> None:
    place: Place = new_place()
    program = place.root / "answer"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o700)
    (place.root / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "command"\noptions = { command = ["./answer"] }\n'
    )
    place.run("up")
    program.rename(place.root / "moved")
    place.kill("worker")

    def named() -> bool:
        [worker] = [each for each in processes() if each.name == "worker"]
        return worker.state == "exited" and "there is no program './answer'" in worker.note

    def processes() -> list[Process]:
        return status(place.home, load(place.home, {})).processes

    until(named, 20, "the worker to be down and its mistake to be named")
    looked = place.beat("watchdog")
    assert looked
    until(lambda: (b := place.beat("watchdog")) and b.loop_beat > looked.loop_beat + 6)
    assert named(), "nobody starts it again"
    (place.root / "moved").rename(program)
    place.run("restart", "worker")
    place.ready("worker")
