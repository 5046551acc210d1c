"""What every way to reach another process must do, run over all that are measured."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from place import until

from bench.ipc import CHANNELS
from bench.ipc.contract import Channel, Wrong
from bench.ipc.window import AHEAD, ROOM, Window

STILL_S = 0.2
TURNING = {"fifo", "pipes, asyncio", "tcp, our frames"}
STAYING = [kind for kind in CHANNELS if kind.stays]
SIZES = [0, 1, 200, 4096, 65_536, 65_537, 1_048_576]


def held() -> tuple[int, list[psutil.Process], int]:
    """Return what a channel could leave behind: descriptors, children, shared memory."""
    maps = Path("/proc/self/maps").read_text()
    children = psutil.Process().children(recursive=True)
    return (
        len(os.listdir("/proc/self/fd")),
        children,
        set(os.listdir("/dev/shm")),
        maps.count("memfd"),
    )


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for init to reap it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(params=CHANNELS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[Channel]:
    return request.param


@pytest.fixture
def channel(kind: type[Channel], tmp_path: Path) -> Iterator[Channel]:
    with kind(tmp_path) as channel:
        yield channel


def test_what_comes_back_is_what_was_sent_at_every_size(channel: Channel) -> None:
    for size in SIZES:
        payload = os.urandom(size)
        assert channel.exchange(payload) == payload


def test_round_trips_give_a_time_for_each(channel: Channel) -> None:
    times = channel.round_trips(b"x" * 200, 5)
    assert len(times) == 5
    assert min(times) > 0


def test_many_in_flight_come_back_in_order(channel: Channel) -> None:
    count = 3 * AHEAD if channel.stays else 20
    channel.converse([b"%d" % number * (number % 50) for number in range(count)])
    channel.converse([os.urandom(65_536) for _ in range(9)])
    channel.converse([os.urandom(1_048_576) for _ in range(2)])


def test_only_a_loop_goes_on_while_the_server_stands_still(channel: Channel) -> None:
    longest = channel.hold(STILL_S)
    assert (longest < STILL_S / 2) == (channel.name in TURNING)
    assert channel.exchange(b"it goes on") == b"it goes on"


def test_a_server_killed_in_mid_frame_is_noticed_and_a_new_one_answers(
    kind: type[Channel], tmp_path: Path
) -> None:
    with kind(tmp_path) as first:
        loss = first.lose()
        assert (loss.seconds is None) == (first.name == "shared memory"), loss
        assert "before the kill" not in loss.sign
    with kind(tmp_path) as second:
        assert second.exchange(b"again") == b"again"


def test_nothing_is_left_after_close_whatever_happened_before(
    kind: type[Channel], tmp_path: Path
) -> None:
    def use(lose: bool) -> None:
        with kind(tmp_path) as channel:
            channel.exchange(bytes(70_000))
            if lose:
                channel.lose()
        channel.close()

    use(lose=False)  # the first use opens what stays: imports, the watcher of asyncio
    before = held()
    use(lose=False)
    use(lose=True)
    assert held() == before
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("kind", STAYING, ids=lambda kind: kind.name)
def test_a_server_ends_when_its_client_is_killed(kind: type[Channel], tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from {kind.__module__} import {kind.__name__}
print({kind.__name__}(Path({str(tmp_path)!r})).server.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    client = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert client.returncode == -9
    until(lambda: has_ended(int(client.stdout)), what="the server to end")


def test_a_payload_that_comes_back_as_another_is_found() -> None:
    window = Window([b"first", b"second"])
    assert window.fill() == [b"first", b"second"]
    window.take(b"first")
    with pytest.raises(Wrong, match="payload 2"):
        window.take(b"first")


def test_a_window_holds_back_what_is_over_its_room_but_lets_any_one_pass() -> None:
    half, large = bytes(ROOM // 2), bytes(ROOM * 3)
    window = Window([half, half, half, large, b""])
    assert window.fill() == [half, half]
    window.take(half)
    assert window.fill() == [half]
    window.take(half)
    window.take(half)
    assert window.fill() == [large]
    window.take(large)
    assert window.fill() == [b""]
    window.take(b"")
    assert window.done


def test_a_window_keeps_no_more_in_flight_than_a_link_gives_credits() -> None:
    window = Window([b"x"] * 200)
    assert len(window.fill()) == AHEAD
    assert window.fill() == []
    window.take(b"x")
    assert len(window.fill()) == 1
