"""Starts the echo servers: scripts that import no more than they need, so that memory compares."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

_ECHO = Path(__file__).parent / "echo"


def start(
    stack: ExitStack, script: str, *arguments: object, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Run a script of the folder `echo` until the stack is left.

    Its stdin and stdout are pipes. It must end when its stdin, or its client, does.
    """
    server = subprocess.Popen(
        [sys.executable, "-P", str(_ECHO / f"{script}.py"), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,  # Ctrl-C is for us alone
    )
    stack.callback(end, server)
    return server


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, reap it, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):  # what it did not take is of no use any more
                pipe.close()
