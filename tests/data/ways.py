"""Runs command lines with their streams in every bad state, one fork each, and prints what came.

Reads a JSON list of command lines from stdin. Forks have everything imported already: so many
interpreters would take minutes to start.
"""

import importlib
import json
import os
import sys
import tempfile

from autopoll.cli import COMMANDS, commands, main

# What commands import when they are called.
LATE = (
    "autopoll.ops.health",
    "autopoll.ops.status",
    "autopoll.ops.shards.add",
    "autopoll.ops.shards.remove",
    "autopoll.ops.reload",
    "autopoll.home.operator_token",
    "autopoll.ops.up",
    "autopoll.ops.down",
    "autopoll.ops.restart",
    "autopoll.client.poller_connection",
    "autopoll.gateway.mcp.install",
    "rich.console",
    "rich.table",
    "rich.text",
    "autopoll.process.incident_log",
    "autopoll.backends.echo",
    "difflib",
)
GOOD, CLOSED, FULL, GONE = "good", "closed", "full", "gone"
WAYS = {
    "good": (GOOD, GOOD),
    "closed": (CLOSED, GOOD),
    "errors closed": (GOOD, CLOSED),
    "both closed": (CLOSED, CLOSED),
    "full": (FULL, GOOD),
    "errors full": (GOOD, FULL),
    "gone": (GONE, GOOD),
    "both gone": (GONE, GONE),
}


def put(number: int, state: str, file: int) -> None:
    """Have descriptor 1 or 2 be in a state, and sys.stdout or sys.stderr as Python would set it."""
    stream = None
    if state == CLOSED:
        os.close(number)
    else:
        if state == FULL:
            file = os.open("/dev/full", os.O_WRONLY)
        elif state == GONE:
            read, file = os.pipe()
            os.close(read)
        os.dup2(file, number)
        stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    name = "stdout" if number == 1 else "stderr"
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def run(args: list[str], way: str) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                put(1, WAYS[way][0], out.fileno())
                put(2, WAYS[way][1], err.fileno())
                code = main(args)
                if sys.stdout is not None:
                    sys.stdout.flush()  # as Python does at exit
            except OSError:
                code = 120  # as Python says that it failed
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


if __name__ == "__main__":
    given = json.load(sys.stdin)
    for section in COMMANDS.values():
        for name in section:
            commands.get_command(None, name)  # type: ignore[arg-type]
    for name in LATE:
        importlib.import_module(name)
    print(json.dumps([{way: run(args, way) for way in WAYS} for args in given]))
