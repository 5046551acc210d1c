"""How much of a core poller, worker and watchdog together use while nobody asks anything.

Promised: less than 1 % over a minute. Exit 1 when it does not hold.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from autopoll.process import heartbeat

SECONDS = 60.0
SETTLE_S = 5.0


def main() -> int:
    script = Path(sys.executable).parent / "autopoll"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([script, "init", folder], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([script, "up"], cwd=folder, check=True)
        try:
            beats = heartbeat.read_all(Path(folder, "var", "run", "beats"))
            processes = {beat.name: psutil.Process(beat.pid) for beat in beats}
            time.sleep(SETTLE_S)
            before = {name: _cpu(process) for name, process in processes.items()}
            time.sleep(SECONDS)
            shares = {
                name: 100 * (_cpu(process) - before[name]) / SECONDS
                for name, process in processes.items()
            }
        finally:
            subprocess.run([script, "down"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    for name, share in shares.items():
        print(f"{name:10} {share:5.2f} % of a core")
    print(f"{'together':10} {sum(shares.values()):5.2f} % of 1 %")
    return 0 if sum(shares.values()) < 1.0 else 1


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    raise SystemExit(main())
