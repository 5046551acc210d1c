"""`make demo`: a home in a scratch folder asks, loses a worker in mid-question, and answers.

Everything is done by the commands that a person would type. Exits with 1 as soon as anything is not
as the README promises; whatever happens, nothing is left running and nothing is left behind.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo_home import DemoHome
from narration import command, heading, perform, promise, say, show, until

CHECKOUT = Path(__file__).resolve().parents[1]
QUESTIONS = (
    "Why is exactly one answer written?",
    "What should I do after a crash of the machine?",
    "Why named pipes instead of sockets?",
    "How do I add a backend?",
)
AGENTS_QUESTION = "How do I tell Claude Code of a home?"
PROGRAMS_QUESTION = "How long is a key remembered?"
LONG_QUESTION = "Which page writes most about the lease?"
SLOW = "worker-slow-1"
# Paths are written as JSON strings, which TOML reads alike.
CONFIG = """\
[shards.main]
backend = "extract"
context = {context}
options.passages = 1

[shards.slow]
backend = "command"
context = {context}
options.command = {command}

[gateway]
enabled = true
listen = "unix:var/run/gateway.sock"
"""


class Demo(DemoHome):
    """One home, narrated."""

    def run(self) -> None:
        """Show everything, in order."""
        self.found()
        self.ask_around()
        self.ask_as_an_agent()
        self.ask_as_a_program()
        self.pull_the_plug()
        self.look()
        self.stop()

    def found(self) -> None:
        """Make the home and start it."""
        heading("A home in a scratch folder, with this project's own pages as context")
        context = [str(CHECKOUT / name) for name in ("README.md", "CONTRIBUTING.md", "docs")]
        command = [sys.executable, str(CHECKOUT / "demo" / "slow_reader.py")]
        self.home.config.write_text(
            CONFIG.format(context=json.dumps(context), command=json.dumps(command)),
            encoding="utf-8",
        )
        self.autopoll("init")
        say(self.autopoll("up").splitlines()[-1])

    def ask_around(self) -> None:
        """Ask the pages, and check each citation against the file that it names."""
        heading("Questions, answered by a warm instance, each with file:first-last")
        for question in QUESTIONS:
            result = self.json("ask", question)
            promise(result["status"] == "answered", f"{question!r} is answered")
            promise(result["sources"], f"the answer to {question!r} names its sources")
            for source in result["sources"]:
                promise(exists(source), f"{source} is a place in this checkout")
            show(result)

    def ask_as_an_agent(self) -> None:
        """Let the official MCP client start a server and ask through it."""
        heading("The same for an agent, by the Model Context Protocol")
        self.autopoll("mcp", "install", "--client", "claude-code", show=True)
        entry = json.loads((self.home.root / ".mcp.json").read_text())["mcpServers"]["autopoll"]
        arguments = json.dumps({"question": AGENTS_QUESTION})
        command(f"(an agent calls the tool ask with {arguments})")
        done = subprocess.run(
            [
                sys.executable, str(CHECKOUT / "demo" / "agent.py"), "ask", arguments, "--",
                entry["command"], *entry["args"],
            ],
            cwd=self.home.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )  # fmt: skip
        promise(done.returncode == 0, "an agent is served")
        came = json.loads(done.stdout)
        promise(not came["failed"], f"{AGENTS_QUESTION!r} is answered")
        promise(came["result"]["sources"], "the agent is told the sources")
        for text in came["told"]:
            say(f"progress: {text}")
        show(came["result"])

    def ask_as_a_program(self) -> None:
        """Ask over REST, twice under one key, as a program does that cannot be sure."""
        heading("The same for a program, over REST")
        token = self.json("gateway", "token")["token"]
        body = json.dumps({"question": PROGRAMS_QUESTION})
        command(
            "curl --unix-socket var/run/gateway.sock http://localhost/v1/questions \\\n"
            "    -H 'Authorization: Bearer …' -H 'Idempotency-Key: demo' -H 'Prefer: wait=30' \\\n"
            f"    -H 'Content-Type: application/json' -d '{body}'"
        )
        first, second = (self.post("/v1/questions", body, token) for _ in range(2))
        promise(first["status"] == "answered", f"{PROGRAMS_QUESTION!r} is answered")
        promise(first == second, "a repeated request asks nothing new")
        show(first)
        say("sent twice under one Idempotency-Key, asked once")

    def post(self, path: str, body: str, token: str) -> Any:
        """Send a request to the gateway and return what it answers."""
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.home.run / "gateway.sock"))
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": "demo",
            "Prefer": "wait=30",
        }
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        promise(answer.status == 200, f"{path} is served")
        told = json.load(answer)
        connection.close()
        return told

    def pull_the_plug(self) -> None:
        """Kill a worker with a question in its hands."""
        heading("Pulling the plug: kill -9 while a question is in flight")
        asked = self.json("ask", LONG_QUESTION, "--shard", "slow", "--no-wait")["id"]

        beat = self.halfway(SLOW)
        open_still = self.json("answer", str(asked), "--no-wait", quiet=True)
        promise(open_still["status"] == "pending", "the question is open")
        command(f"kill -9 {beat.pid}")
        os.kill(beat.pid, signal.SIGKILL)

        result = self.json("answer", str(asked), "--timeout", "60")
        show(result)
        promise(result["status"] == "answered", "the question is answered all the same")
        promise(result["attempts"] > 1, "it took a second attempt")
        promise(self.answers_to(asked) == 1, "there is exactly one answer")
        say(f"answered all the same, once, by attempt {result['attempts']}")

        def explained() -> dict[str, Any] | None:
            lines = self.autopoll("incidents", "--json", quiet=True).splitlines()
            found = [one for line in lines if (one := json.loads(line))["process"] == SLOW]
            return found[-1] if found and found[-1]["recovered_ms"] is not None else None

        incident = until(explained, "the incident to be recorded")
        promise(incident["verdict"] == "dead", "the reason of the restart is recorded")
        self.autopoll("incidents", show=True)

    def look(self) -> None:
        """Show the status table."""
        heading("Everything runs again")
        until(lambda: self.json("status", quiet=True)["ready"], "everything to be ready")
        self.autopoll("status", show=True)

    def stop(self) -> None:
        """Take the home down and look for leftovers."""
        heading("Stopping")
        self.autopoll("down")
        promise(not self.processes(), "no process is left")
        promise(not list(self.home.run.iterdir()), "nothing is left in var/run")
        say("no process is left, and nothing in var/run")


def exists(source: str) -> bool:
    """Tell whether `file:first-last` names lines that are there."""
    match = re.fullmatch(r"(.+):(\d+)-(\d+)", source)
    if not match or not (CHECKOUT / match[1]).is_file():
        return False
    length = len((CHECKOUT / match[1]).read_text(encoding="utf-8").splitlines())
    return 1 <= int(match[2]) <= int(match[3]) <= length


if __name__ == "__main__":
    sys.exit(perform(Demo))
