"""What a question costs by each way to a model, in one run against a mock of the APIs on loopback.

    python -m bench.backends [--times 20] [--out FILE.json]

(a) `claude -p` spawned for each question, as a polling script does when it has seen one; what it
waits for its next poll is not counted. (b) to (d) go through the whole of autopoll, from `ask` to
the answer, by the backends `claude-code`, `anthropic` and `openai`. The ways take turns, a round
after the other, so that a busy moment of the machine meets all of them. Then the CLI is killed
with SIGKILL in the middle of a question, and the time to its answer is taken.

The mock answers at once: these are the costs beside the model's own time. Needs the extra `all`.
Prints medians in milliseconds and their ratio to (a).
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from claude_account import KEY, account
from mock_api.server import MockApi, running

from autopoll.backends.claude_code.program import bundled
from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.ops.selftest.scratch_home import Scratch, scratch_home
from autopoll.process.proc_stat import all_stats
from bench import command

T = TypeVar("T")

SPAWNED = "claude -p per question"
WAYS = {
    "claude-code": '[shards.main]\nbackend = "claude-code"\noptions.model = "haiku"\n',
    "anthropic": '[shards.main]\nbackend = "anthropic"\noptions.model = "mock"\n',
    "openai": '[shards.main]\nbackend = "openai"\noptions.model = "mock"\n',
}
CONTEXT = 'context = ["notes.md"]\n'
NOTES = "# Hues\n\nThe tulip is yellow.\n" + "".join(f"Line {n} of more.\n" for n in range(500))
QUESTION = "What about the tulip?"
WARM_UPS = 2
TIMEOUT_S = 120.0
REST_S = 2.0  # between two questions: people do not ask faster, and the next CLI makes itself ready


class Way:
    """A home that answers by one backend."""

    def __init__(self, scratch: Scratch, bridge: Bridge) -> None:
        self.scratch = scratch
        self._client = Client(scratch.home, scratch.config, bridge)

    def ask(self) -> float:
        """Ask once and return the milliseconds from the question to its answer."""
        with PollerConnection(self.scratch.home) as connection:
            began = time.perf_counter()
            ids = self._client.ask([QUESTION], "main", connection=connection).ids
            [result] = self._client.wait(ids, connection, timeout=TIMEOUT_S)
            took = 1000 * (time.perf_counter() - began)
        assert result.sources == ["notes.md:3-3"], result
        return took

    def ask_and_kill(self, api: MockApi) -> float:
        """Kill the CLI in mid-query and return the milliseconds from then to the answer."""
        api.mood, asked = "delay=60000", len(api.requests)
        with PollerConnection(self.scratch.home) as connection:
            ids = self._client.ask([QUESTION], "main", connection=connection).ids
            _until(lambda: len(api.requests) > asked)
            port = f":{api.server_address[1]:04X} "
            pid = _until(lambda: next((cli for cli in self._clis() if _talks(cli, port)), None))
            api.mood = ""
            os.kill(pid, signal.SIGKILL)
            began = time.perf_counter()
            [result] = self._client.wait(ids, connection, timeout=TIMEOUT_S)
        assert result.sources == ["notes.md:3-3"], result
        return 1000 * (time.perf_counter() - began)

    def _clis(self) -> list[int]:
        mine = {each.pid for each in self.scratch.processes()}
        return [each.pid for each in all_stats() if each.pid in mine and each.name == "claude"]


def _talks(pid: int, port: str) -> bool:
    """Tell whether the process has a connection to that port (":1F90 ", as in /proc)."""
    try:
        opened = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {f"socket:[{line.split()[9]}]" for line in lines if port in f"{line.split()[2]} "}
    return bool(opened & inodes)


def spawn(folder: Path) -> float:
    """Answer one question as a script does, and return the milliseconds."""
    cli = bundled()
    assert cli is not None, "the CLI is not installed: pip install 'autopoll[claude]'"
    line = [cli, "-p", QUESTION, "--model", "haiku", "--output-format", "json", "--tools", ""]
    began = time.perf_counter()
    done = subprocess.run(
        [*line, "--append-system-prompt", NOTES], cwd=folder, stdin=subprocess.DEVNULL,
        capture_output=True, check=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    took = 1000 * (time.perf_counter() - began)
    assert QUESTION in json.loads(done.stdout)["result"], done.stdout
    return took


@contextmanager
def way(name: str, folder: Path) -> Iterator[Way]:
    """Bring up a home of that backend."""
    table, _, rest = WAYS[name].partition("\n")
    with scratch_home(f"{table}\n{CONTEXT}{rest}", {}, folder) as scratch:
        (scratch.home.root / "notes.md").write_text(NOTES)
        scratch.up(lambda _: None)
        with closing(connect(scratch.home, scratch.config)) as bridge:
            yield Way(scratch, bridge)


def measure(times: int, folder: Path, api: MockApi) -> dict[str, list[float]]:
    """Return the milliseconds of every way, and those from the kill of the CLI to the answer."""
    with ExitStack() as stack:
        homes = {name: stack.enter_context(way(name, folder)) for name in WAYS}
        laps: dict[str, Callable[[], float]] = {SPAWNED: lambda: spawn(folder)}
        laps |= {name: home.ask for name, home in homes.items()}
        found: dict[str, list[float]] = {name: [] for name in laps}
        for number in range(WARM_UPS + times):
            for name, lap in laps.items():
                took = lap()
                if number >= WARM_UPS:
                    found[name].append(took)
            print(f"round {number + 1} of {WARM_UPS + times}", flush=True)
            time.sleep(REST_S)
        struck = []
        for _ in range(times):
            struck.append(homes["claude-code"].ask_and_kill(api))
            time.sleep(REST_S)
    return {**found, "kill -9 of the CLI to the answer": struck}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--out", type=Path, help="a file for every single value, as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="autopoll-backends-") as name, running() as api:
        folder = Path(name)
        os.environ.update(account(folder, api.url))
        os.environ.update(
            OPENAI_BASE_URL=f"{api.url}/v1", OPENAI_API_KEY=KEY,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", DISABLE_AUTOUPDATER="1",
            DISABLE_TELEMETRY="1",
        )  # fmt: skip
        found = measure(given.times, folder, api)
    spawned = statistics.median(found[SPAWNED])
    print(f"\n{f'(ms, of {given.times})':34} {'median':>8} {'best':>8} {'worst':>8}  of {SPAWNED}")
    for name, values in found.items():
        median = statistics.median(values)
        line = f"{name:34} {median:8.1f} {min(values):8.1f} {max(values):8.1f}"
        print(f"{line}  {median / spawned:.1%}")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1))
    return 0


def _until(condition: Callable[[], T | None]) -> T:
    end = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.005)
    return value


if __name__ == "__main__":
    raise SystemExit(command.run(main))
