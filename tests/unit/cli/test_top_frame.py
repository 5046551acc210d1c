"""What `autopoll top` draws, at every size, whatever is in it."""

import msgspec
import pytest
from prepared_home import prepared_home
from rich.cells import cell_len

from autopoll.bridge.records import Spent
from autopoll.cli.top_frame import Selected, frame, rows
from autopoll.home.config import load
from autopoll.ops.home_snapshot import HomeSnapshot, ShardFigures
from autopoll.ops.status import Latency, Process, ShardStatus, Status, status
from autopoll.process.incident_log import Incident

EVIL = "\x1b[2J質問\u202e\r\n\tend" + "x" * 300
NAMES = ["poller", "watchdog", *(f"worker-{number}" for number in range(1, 41))]


def shard(name: str, status: ShardStatus) -> ShardFigures:
    paused = msgspec.structs.replace(
        status, name=name, instances=2, ready=1, in_flight=1, paused=f"quota {EVIL}",
        usage_today=Spent(input_tokens=1200),
    )  # fmt: skip
    return ShardFigures(
        status=paused, waiting=3, oldest_s=90.0, per_minute=7, p50_ms=12, p99_ms=3400
    )


@pytest.fixture(scope="module")
def down(tmp_path_factory: pytest.TempPathFactory) -> Status:
    """The status of a home that is down."""
    home = prepared_home(tmp_path_factory.mktemp("home"))
    return status(home, load(home, {}))


@pytest.fixture
def now(down: Status) -> HomeSnapshot:
    processes = [
        Process(
            name=name, role="worker", state="busy", pid=4711, uptime_s=3600.0, restarts=2,
            rss_bytes=40_000_000, fds=12, note=f"note {EVIL}", loop_age_s=0.3,
        )
        for name in NAMES
    ]  # fmt: skip
    incident = Incident(
        at="2026-03-01T10:00:00+00:00", process=EVIL, verdict="dead", action="x", evidence=EVIL
    )
    seen = msgspec.structs.replace(
        down, supervisord="running", processes=processes, shards=[],
        queue=dict.fromkeys(("queued", "ready", "leased", "done", "dead"), 3),
        latency_ms=Latency(p50=12, p99=340), problems=[EVIL, "second", "third"],
    )  # fmt: skip
    shards = [shard("main", down.shards[0]), shard("other", down.shards[0])]
    return HomeSnapshot(at=0, status=seen, shards=shards, incidents=[incident] * 20)


@pytest.mark.parametrize("width", [1, 2, 10, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 8, 12, 24, 60])
def test_a_frame_fits_whatever_the_size(now: HomeSnapshot, width: int, height: int) -> None:
    lines = frame(now, rows(now)[0], "keys", width, height)
    assert len(lines) == height
    for text, _ in lines:
        assert cell_len(text) <= width
        assert text.isprintable() and "\x1b" not in text
    assert lines[-1][0] == "keys" or width < 4


def test_at_80_by_24_all_three_tables_are_seen(now: HomeSnapshot) -> None:
    shown = "\n".join(text for text, _ in frame(now, rows(now)[0], "keys", 80, 24))
    for word in (
        "not ready",
        "beat",
        "restarts",
        "memory",
        "files",
        "waits",
        "flight",
        "paused",
        "verdict",
    ):
        assert word in shown
    for value in ("300ms", "40 MB", "12ms", "3s", "7/m", "1.2k", "quota"):
        assert value in shown


def test_the_selected_row_is_seen_without_colour_wherever_it_is(now: HomeSnapshot) -> None:
    for selected in rows(now):
        lines = frame(now, selected, "keys", 80, 24)
        marked = [text for text, _ in lines if text.startswith("> ")]
        assert len(marked) == 1 and marked[0].split()[1] == selected.name
    lines = frame(now, Selected("process", "gone"), "keys", 80, 24)
    assert not any(text.startswith("> ") for text, _ in lines)


def test_nothing_at_all_can_be_drawn_too(down: Status) -> None:
    status = msgspec.structs.replace(down, processes=[], shards=[], queue=None, problems=[])
    empty = HomeSnapshot(at=0, status=status, shards=[], incidents=[])
    assert rows(empty) == []
    assert "not ready (supervisord down)" in frame(empty, None, "keys", 80, 24)[0][0]


def test_the_first_line_names_the_shards_that_are_paused(now: HomeSnapshot) -> None:
    paused = [each.status for each in now.shards]
    running = msgspec.structs.replace(paused[0], name="third", paused=None)
    status = msgspec.structs.replace(now.status, shards=[*paused, running])
    seen = msgspec.structs.replace(now, status=status)
    title = frame(seen, None, "keys", 120, 24)[0][0]
    assert "not ready (supervisord running; paused: main, other)" in title
