"""A folder for a pair, and ends of it as processes that are killed when the test ends."""

import pytest
from fifo_end import TICK_S, Process

from fifo import server_end


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch):
    monkeypatch.setattr(server_end, "TICK_S", TICK_S)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "main"


@pytest.fixture
def spawn(tmp_path, folder):
    processes = []

    def start(role):
        processes.append(Process(role, folder, tmp_path / f"{role}-{len(processes)}.log"))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.popen.stdin.close()
