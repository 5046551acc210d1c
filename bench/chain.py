"""The overhead of autopoll on top of the model: question to answer with a backend that only echoes.

One asker that stays connected asks one question after the other through a running home: INSERT
and commit, bell, claim, pipe, worker, pipe, answer and commit, bell. Beside it, in the same run,
stands the floor: a bare durable commit of one row. Then a batch, for throughput, and single
questions after an idle pause each, because what sleeps must wake.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw

from autopoll import config
from autopoll.home import Home
from autopoll.service import Service, Waiter, connect

QUESTIONS = 2000
BATCH = 1000
IDLE, IDLE_S = 5, 10.0


def main() -> None:
    script = Path(sys.executable).parent / "autopoll"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run([script, "init", folder], check=True, stdout=subprocess.DEVNULL)
        (root / "autopoll.toml").write_text(
            '[shards.main]\nbackend = "echo"\noptions = { concurrency = 8 }\n'
            "[access]\nrate_burst = 1000000\n"
        )
        subprocess.run([script, "up"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        try:
            home = Home(root)
            settings = config.load(home)
            service = Service(home, settings, connect(home, settings))
            with Waiter(home) as waiter:
                ask(service, waiter, 200)
                floor = commits(root / "floor.db")
                took = ask(service, waiter, QUESTIONS)
                start = time.perf_counter()
                list(service.wait(service.ask(["?"] * BATCH, "main", waiter=waiter).ids, waiter))
                batch = time.perf_counter() - start
                woken = []
                for _ in range(IDLE):
                    time.sleep(IDLE_S)
                    woken += ask(service, waiter, 1)
        finally:
            subprocess.run([script, "down"], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    bare = statistics.median(floor)
    show("one durable commit", floor, bare)
    show("question to answer", took, bare)
    show(f"after {IDLE_S:.0f} s idle", woken, bare)
    print(f"{BATCH} at once        {BATCH / batch:9.0f} answers a second")


def ask(service: Service, waiter: Waiter, count: int) -> list[float]:
    took = []
    for _ in range(count):
        start = time.perf_counter()
        ids = service.ask(["what?"], "main", waiter=waiter).ids
        (result,) = service.wait(ids, waiter)
        took.append(time.perf_counter() - start)
        assert result.answer == "what?"
    return took


def commits(path: Path) -> list[float]:
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
    took = []
    for _ in range(QUESTIONS):
        start = time.perf_counter()
        db.execute("INSERT INTO t (text) VALUES ('what?')")
        took.append(time.perf_counter() - start)
    return took


def show(name: str, took: list[float], bare: float) -> None:
    took = sorted(took)
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(
        f"{name:20} p50 {p50 * 1e6:7.0f} us  p99 {p99 * 1e6:7.0f} us  {p50 / bare:5.1f} x a commit"
    )


if __name__ == "__main__":
    main()
