"""Hung, busy and forgetful backends in one home: each gets what it needs, the busy are left alone.

All of it happens at the same time, on a machine with too much to do.
"""

import json
from collections.abc import Iterator

import pytest
from naughtiness import naughty_home
from place import Place, until

from autopoll.process import incident_log
from autopoll.process.heartbeat import Beat
from autopoll.process.incident_log import Incident
from autopoll.process.proc_stat import all_stats

pytestmark = pytest.mark.early

DEADLOCK = "wait_for_a_lock_that_nobody_releases"
ASKED = {  # of each shard
    "main": f"once {DEADLOCK}",
    "still": f"once {DEADLOCK}",
    "forget": "forget_a_child",
    "grand": "have_a_forgetful_child",
    "socket": "receive_from_a_socket",
    "spin": "spin",
    "gil": "hold_the_interpreter",
    "starve": "starve",
}
HONEST = ("socket", "spin", "gil", "starve")
SETTINGS = {"main": 'request_timeout = "2s"', "still": 'progress_timeout = "1s"'}
CONFIG = "\n".join(
    f'[shards.{shard}]\nbackend = "naughty"\n{SETTINGS.get(shard, "")}' for shard in ASKED
)


class Scene:
    """A home with one question on its way to each shard."""

    def __init__(self, place: Place) -> None:
        self.place = place
        place.run("up")
        self.before = {shard: place.pid(worker(shard)) for shard in ASKED}
        self.asking = {
            shard: place.start_ask(question, "--shard", shard, "--timeout", "100")
            for shard, question in ASKED.items()
        }
        self.answers: dict[str, dict[str, object]] = {}

    def answer(self, shard: str) -> dict[str, object]:
        if shard not in self.answers:
            out, err = self.asking[shard].communicate(timeout=100)
            assert self.asking[shard].returncode == 0, err
            self.answers[shard] = json.loads(out)
        return self.answers[shard]

    def incidents(self, shard: str) -> list[Incident]:
        found = incident_log.read(self.place.home.incidents)
        return [each for each in found if each.process == worker(shard)]

    def incident(self, shard: str) -> Incident:
        """Wait for the one incident there is, and until the worker works again."""
        until(lambda: (found := self.incidents(shard)) and found[0].recovered_ms is not None, 40)
        [found] = self.incidents(shard)
        return found

    def stacks(self, shard: str) -> str:
        folders = self.place.home.evidence.iterdir()
        folder = next(each for each in folders if each.name.endswith(worker(shard)))
        return (folder / "stacks.txt").read_text()


def worker(shard: str) -> str:
    return "worker" if shard == "main" else f"worker-{shard}-1"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with naughty_home(tmp_path_factory.mktemp("hangs"), CONFIG) as place:
        scene = Scene(place)
        yield scene
        for shard in ASKED:
            scene.answer(shard)


@pytest.mark.long
def test_a_deadlocked_backend_is_killed_after_its_deadline_and_the_question_asked_again(
    scene: Scene,
) -> None:
    beat = scene.place.busy("worker")
    assert isinstance(beat, Beat) and beat.request_start
    answer = scene.answer("main")
    assert (answer["answer"], answer["attempts"]) == (f"once {DEADLOCK}", 2)
    found = scene.incident("main")
    assert (found.verdict, found.action) == ("hung-request", "killed")
    took = found.clock - beat.request_start
    assert 4.0 < took < 60.0  # its deadline, two seconds of grace, two samples
    assert f"in {DEADLOCK}" in scene.stacks("main")


def test_the_trace_of_a_hung_question_has_both_attempts_and_the_verdict_in_between(
    scene: Scene,
) -> None:
    number = scene.answer("main")["id"]
    incident = scene.incident("main")
    found = scene.place.json("trace", str(number))
    events = found["events"]
    claimed = [n for n, each in enumerate(events) if each["state"] == "claimed"]
    verdicts = [n for n, each in enumerate(events) if each.get("verdict") == "hung-request"]
    assert len(claimed) == 2 and len(verdicts) == 1
    assert claimed[0] < verdicts[0] < claimed[1]
    pids = [each["pid"] for each in events if each["state"] == "dispatched"]
    assert pids[0] == incident.pid == events[verdicts[0]]["pid"] != pids[1]
    ends = [each["state"] for each in events if each["state"] in ("failed", "answered")]
    assert (ends, found["state"], found["attempts"]) == (["failed", "answered"], "answered", 2)
    work = [each["ms"] for each in found["hops"] if each["hop"] == "work"]
    assert work[0] >= 2000  # the deadline of the shard


def test_a_backend_without_progress_is_killed_where_the_shard_asks_for_progress(
    scene: Scene,
) -> None:
    assert scene.answer("still")["attempts"] == 2
    found = scene.incident("still")
    assert (found.verdict, found.action) == ("no-progress", "killed")
    assert f"in {DEADLOCK}" in scene.stacks("still")


def test_who_is_busy_within_its_deadline_is_not_killed_whatever_it_is_busy_with(
    scene: Scene,
) -> None:
    for shard in HONEST:
        assert scene.answer(shard)["attempts"] == 1
        assert scene.answer(shard)["latency_ms"] > 10_000, "it had it easy"
    assert [scene.incidents(shard) for shard in HONEST] == [[]] * 4


@pytest.mark.long
@pytest.mark.parametrize(("shard", "action"), [("forget", "told to reap"), ("grand", "drained")])
def test_a_zombie_is_reaped_by_its_worker_or_goes_with_it(
    scene: Scene, shard: str, action: str
) -> None:
    assert scene.answer(shard)["attempts"] == 1
    found = scene.incident(shard)
    assert (found.verdict, found.action) == ("zombie-children", action)
    stayed = scene.place.pid(worker(shard)) == scene.before[shard]
    assert stayed == (action == "told to reap")
    parents = {scene.before[shard], scene.place.pid(worker(shard))}
    assert [each for each in all_stats() if each.zombie and each.parent in parents] == []


def test_nothing_is_left_over_in_the_end(scene: Scene) -> None:
    for shard in ("grand", "main", "still"):
        scene.incident(shard)
    until(lambda: len(scene.place.processes()) == len(ASKED) + 2, what="all else to be gone")
