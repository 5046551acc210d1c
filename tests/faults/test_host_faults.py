"""What happens to one of two hosts that share a bridge: the other answers, and only one does."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hosts import LEASE_S, freeze, home_on, kill, thaw, up
from place import Place, answers_to, until
from postgres_server import PostgresServer
from tcp_proxy import TcpProxy

pytestmark = pytest.mark.long

CLOCK = Path(__file__).parent.parent / "data" / "clock" / "sitecustomize.py"
HOUR_S = 3600
ECHO = '[shards.main]\nbackend = "echo"\n[shards.main.options]\ndelay = "{delay}"\n'
SLOW = "8s"  # of the host that is struck: beyond two leases and a reap


class Two:
    """Two homes behind proxies of their own on one server; the first one takes its time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.server = stack.enter_context(PostgresServer(tcp=True))
        self.proxies = [stack.enter_context(TcpProxy(self.server.port)) for _ in range(2)]
        self.clocks = [folder / "clocks" / name for name in "ab"]
        self.places = [
            self._home(folder / name, proxy, clock, delay)
            for name, proxy, clock, delay in zip(
                "ab", self.proxies, self.clocks, (SLOW, "500ms"), strict=True
            )
        ]
        for place in self.places:
            stack.callback(place.close)
        up(self.places)
        self.bridge = stack.enter_context(closing(self.places[1].bridge()))

    def _home(self, folder: Path, proxy: TcpProxy, clock: Path, delay: str) -> Place:
        clock.mkdir(parents=True)
        shutil.copy(CLOCK, clock)
        url = self.server.tcp_url(port=proxy.port)
        return home_on(folder, url, ECHO.format(delay=delay), {"PYTHONPATH": str(clock)})

    def set_clock(self, number: int, seconds: float) -> None:
        fresh = self.clocks[number] / "fresh"
        fresh.write_text(f"{seconds}")
        fresh.replace(self.clocks[number] / "shift")

    def asked_of_the_first(self) -> int:
        """Ask a question of the first home, and return when its worker has it in hand."""
        asked: int = self.places[0].ask("whose?", "--no-wait")["id"]
        self.places[0].busy("worker")
        return asked

    def answered_by_the_second(self, asked: int) -> None:
        state = until(
            lambda: (now := self.bridge.messages.query_state(asked)).state == "done" and now,
            60,
            "the other home to answer",
        )
        assert state.attempts == 2

    def answered_once(self, asked: int) -> None:
        conversation = self.bridge.messages.query_state(asked).conversation
        found = self.bridge.messages.find(conversation=conversation, limit=10_000)
        assert answers_to(found).count(asked) == 1

    def silent_s(self, name: str) -> float:
        """Return for how long a home has not beaten, by the clock of the server."""
        ages = {Path(each.folder).name: each.beat_age_ms for each in self.bridge.overview.homes()}
        return ages[name] / 1000

    def hosts(self) -> dict[str, bool]:
        shown = self.places[1].json_lines("hosts")
        return {Path(each["folder"]).name: each["alive"] for each in shown}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path_factory.mktemp("hosts"), stack)


def test_what_a_killed_host_had_in_hand_is_answered_by_the_other(two: Two) -> None:
    first, second = two.places
    asked = two.asked_of_the_first()
    kill(first)
    two.answered_by_the_second(asked)
    two.answered_once(asked)
    assert two.hosts() == {"a": False, "b": True}
    # What is asked of it while it is away waits for nobody either.
    later = first.json("ask", "and now?", "--no-wait")["id"]
    until(lambda: two.bridge.messages.query_state(later).state == "done", 30)
    first.run("up")
    assert two.hosts() == {"a": True, "b": True}
    two.answered_once(asked)
    assert second.json_lines("incidents") == []


def test_a_host_that_was_frozen_for_two_leases_writes_no_second_answer(two: Two) -> None:
    first, _ = two.places
    asked = two.asked_of_the_first()
    stopped = freeze(first)
    two.answered_by_the_second(asked)
    until(lambda: two.silent_s("a") > 2 * LEASE_S)
    thaw(stopped)
    log = first.home.log / "poller.log"
    until(lambda: f"the lease of question {asked} is lost" in log.read_text())
    until(lambda: (beat := first.beat("worker")) and beat.request_id is None)
    answered = first.json("answer", str(asked))
    assert (answered["status"], answered["attempts"]) == ("answered", 2)
    two.answered_once(asked)
    assert two.hosts() == {"a": True, "b": True}


def test_of_two_hosts_that_compute_in_a_partition_one_answers_and_both_askers_see_it(
    two: Two,
) -> None:
    first, _ = two.places
    asking = first.start_ask("who else?")
    first.busy("worker")
    asked = max(each.id for each in two.bridge.messages.find(kind="query", limit=1))
    two.proxies[0].refuse()
    two.proxies[0].cut()
    two.answered_by_the_second(asked)
    # It has been answered here as well, and its answer waits for the server.
    until(lambda: (beat := first.beat("worker")) and beat.request_id is None)
    two.proxies[0].mend()
    out, err = asking.communicate(timeout=60)
    assert asking.returncode == 0, err
    assert json.loads(out)["attempts"] == 2
    two.answered_once(asked)
    until(lambda: two.hosts() == {"a": True, "b": True}, 60, "both homes to beat again")


def test_hosts_whose_clocks_are_hours_apart_keep_their_leases(two: Two) -> None:
    for hours in (1, -1):
        asked = two.asked_of_the_first()
        two.set_clock(0, hours * HOUR_S)
        two.set_clock(1, -hours * HOUR_S)
        assert two.places[1].ask("meanwhile?")["status"] == "answered"
        assert two.hosts() == {"a": True, "b": True}
        answered = two.places[0].json("answer", str(asked), "--timeout", "60")
        assert (answered["status"], answered["attempts"]) == ("answered", 1)
        two.answered_once(asked)
    for place in two.places:
        ages = [each["beat_age_ms"] for each in place.json_lines("hosts")]
        assert max(ages) < 60_000
        assert place.json("health", "--deep")["verdict"] == "ok"
