"""`make demo-hosts`: two homes on one PostgreSQL bridge; one is killed with a question in flight.

Each stands for a host: it has a supervisord, a poller, workers and a watchdog of its own, and knows
of the other by the bridge alone. Exits with 1 as soon as anything is not as the README promises;
whatever happens, nothing is left running and nothing is left behind.
"""

import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from demo_home import DemoHome
from narration import command, heading, perform, promise, say, show, until

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.append(str(CHECKOUT / "tests"))  # where a server is started that leaves nothing behind

from postgres_server import PostgresServer  # noqa: E402

QUESTION = "What should I do after a crash of the machine?"
LONG_QUESTION = "Which page writes most about the lease?"
SLOW = "worker-slow-1"
# A path is written as a JSON string, which TOML reads alike.
SETTINGS = """
[delivery]
visibility_timeout = "3s"   # after which the other host takes over what a dead one held

[shards.slow]
backend = "command"
context = ["docs"]
options.command = {command}
"""


class HostsDemo:
    """Two homes and a server, narrated."""

    def __init__(self, folder: Path) -> None:
        self.one, self.two = (DemoHome(folder / name) for name in ("one", "two"))
        self._stack = ExitStack()

    def run(self) -> None:
        """Show everything, in order."""
        heading("A PostgreSQL server in a scratch folder, and two homes that share a bridge on it")
        server = self._stack.enter_context(PostgresServer())
        for home in (self.one, self.two):
            self.found(home, server.url())
        self.one.autopoll("hosts", show=True)
        self.ask()
        asked = self.pull_the_plug()
        self.come_back(asked)
        self.stop()

    def found(self, home: DemoHome, url: str) -> None:
        """Make a home and start it."""
        say(f"\non host {home.home.root.name}:")
        home.home.root.mkdir()
        shutil.copytree(CHECKOUT / "docs", home.home.root / "docs")
        home.autopoll("init", "--bridge", url)
        reader = [sys.executable, str(CHECKOUT / "demo" / "slow_reader.py")]
        with home.home.config.open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS.format(command=json.dumps(reader)))
        say(home.autopoll("up").splitlines()[-1])

    def ask(self) -> None:
        """Ask on one host and read the answer on the other."""
        heading(
            "A question is asked on host one; its answer is on the bridge, for host two as well"
        )
        result = self.one.json("ask", QUESTION)
        promise(result["status"] == "answered", f"{QUESTION!r} is answered")
        show(result)
        same = self.two.json("answer", str(result["id"]))
        promise(same["answer"] == result["answer"], "host two reads the same answer")
        say("the same answer, on host two")

    def pull_the_plug(self) -> int:
        """Kill all of host one with a question in its hands, and see host two answer it."""
        heading("Pulling the plug of host one: kill -9 of all its processes, a question in flight")
        asked: int = self.one.json("ask", LONG_QUESTION, "--shard", "slow", "--no-wait")["id"]
        self.one.halfway(SLOW)
        command("kill -9 $(all processes of host one)")
        say(f"{self.one.kill_all()} processes are dead")
        say("\non host two:")
        result = self.two.json("answer", str(asked), "--timeout", "60")
        show(result)
        promise(result["status"] == "answered", "the question is answered all the same")
        promise(result["attempts"] > 1, "it took a second attempt")
        promise(self.two.answers_to(asked) == 1, "there is exactly one answer")
        say(f"answered all the same, once, by attempt {result['attempts']}, on host two")
        promise(self.alive() == {"one": False, "two": True}, "only host two is shown as alive")
        self.two.autopoll("hosts", show=True)
        return asked

    def come_back(self, asked: int) -> None:
        """Bring host one up again."""
        heading("Host one comes back, and finds nothing left to do")
        say(self.one.autopoll("up").splitlines()[-1])
        until(lambda: self.alive() == {"one": True, "two": True}, "both hosts to be alive")
        promise(self.one.answers_to(asked) == 1, "there still is exactly one answer")
        say("there still is exactly one answer")

    def stop(self) -> None:
        """Take both down and look for leftovers."""
        heading("Stopping")
        for home in (self.one, self.two):
            home.autopoll("down")
            promise(not home.processes(), "no process is left")
        self._stack.close()
        say("no process is left, and no server")

    def alive(self) -> dict[str, bool]:
        """Return which hosts are alive, as host two sees it."""
        lines = self.two.autopoll("hosts", "--json", quiet=True).splitlines()
        return {Path(one["folder"]).name: one["alive"] for one in map(json.loads, lines)}

    def clean_up(self) -> None:
        """Leave nothing running, whatever came before."""
        with self._stack:
            for home in (self.one, self.two):
                home.clean_up()


if __name__ == "__main__":
    sys.exit(perform(HostsDemo))
