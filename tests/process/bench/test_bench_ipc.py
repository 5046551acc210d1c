"""The IPC matrix, on a small scale: real servers, and nothing left of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from place import until

from bench.cost.figures import Figure
from bench.ipc import CHANNELS
from bench.ipc.matrix import BESIDE, SIZES, STREAMS, measure
from bench.ipc.page import BEGIN, END, fill, tables

SCALE = 0.01
WHATS = [
    *(f"round trip {size}" for size in SIZES),
    "round trip 200 B, placed by the kernel",
    *(f"throughput {size}" for size in STREAMS),
    "caller held",
    "exact exchanges",
    "descriptors more",
    "memory more",
    "memory of the server",
    "processes a request",
    "starting them",
    "death noticed",
    "back",
]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    children, cores = psutil.Process().children(recursive=True), os.sched_getaffinity(0)
    found = measure(SCALE, tmp_path_factory.mktemp("ipc"), lambda _: None)
    assert psutil.Process().children(recursive=True) == children
    assert os.sched_getaffinity(0) == cores
    names = [figure.name for figure in found]
    assert len(set(names)) == len(names)
    return {figure.name: figure for figure in found}


@pytest.mark.parametrize("channel", [kind.name for kind in CHANNELS])
def test_every_channel_has_a_figure_in_every_respect(
    figures: dict[str, Figure], channel: str
) -> None:
    for what in WHATS:
        assert figures[f"{channel}: {what}"].section == "ipc"
    for size in SIZES:
        round_trip = figures[f"{channel}: round trip {size}"]
        assert round_trip.p99 is not None
        assert 0 < round_trip.value <= round_trip.p99
        assert round_trip.floor == "pipes"
    assert figures[f"{channel}: descriptors more"].value == 0


def test_only_a_process_for_each_request_costs_a_start_and_an_entry(
    figures: dict[str, Figure],
) -> None:
    for kind in CHANNELS:
        starting = figures[f"{kind.name}: starting them"].value
        entries = figures[f"{kind.name}: processes a request"].value
        assert (starting > 0) is not kind.stays
        assert (entries >= 1) is not kind.stays


def test_only_shared_memory_does_not_tell_that_its_peer_is_dead(figures: dict[str, Figure]) -> None:
    silent = {
        kind.name
        for kind in CHANNELS
        if figures[f"{kind.name}: death noticed"].note.startswith("nothing")
    }
    assert silent == {"shared memory"}


def test_the_targets_are_those_of_ours_beside_others(figures: dict[str, Figure]) -> None:
    bounded = {name: figure.target for name, figure in figures.items() if figure.target}
    assert bounded == {
        f"fifo: round trip {size} beside {other}": target
        for size, others in BESIDE.items()
        for other, target in others.items()
        if target
    }
    assert bounded["fifo: round trip 200 B beside pipes"] == 1.3
    assert bounded["fifo: round trip 64 KiB beside tcp"] == 1.0


def test_the_page_is_filled_between_its_markers_and_nowhere_else(
    figures: dict[str, Figure], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        fill(page, figures.values())
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n| ")
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text
        assert text.count(BEGIN) == 1
    for title in ("fork and exec", "process-table", "session state", "reliability"):
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {title}")]
        assert row.count("|") == len(CHANNELS) + 2
    assert "| never |" in tables(figures.values())
    page.write_text("no markers")
    with pytest.raises(ValueError, match="figures:begin"):
        fill(page, figures.values())


def test_an_interrupt_in_the_middle_leaves_no_process_and_no_pipe(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from bench.ipc.matrix import measure
measure(1.0, Path({str(tmp_path)!r}), lambda line: print(line, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as run:
        assert run.stdout
        run.stdout.readline()
        servers = psutil.Process(run.pid).children(recursive=True)
        assert len(servers) >= sum(kind.stays for kind in CHANNELS)
        os.kill(run.pid, signal.SIGINT)
        run.stdout.read()
    assert run.returncode != 0
    for server in servers:
        until(lambda one=server: not one.is_running(), what="the servers to end")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
