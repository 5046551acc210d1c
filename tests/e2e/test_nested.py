"""autopoll started from inside an AI agent: it works, and nothing of the agent goes with it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

AGENT = {
    "CLAUDECODE": "1",
    "CLAUDE_CODE_ENTRYPOINT": "cli",
    "CLAUDE_CODE_SESSION_ID": "6f9b0c1e-nested",
    "CLAUDE_CODE_CHILD_SESSION": "1",
    "CLAUDE_CODE_MESSAGING_SOCKET": "/nowhere",
    "CLAUDE_PID": "1",
    "CLAUDE_EFFORT": "high",
    "AI_AGENT": "nested",
    "TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "SOMEBODYS_SECRET": "hush",
}


@pytest.mark.long
@pytest.mark.parametrize("typed", [b"", b"what is typed next\n"], ids=["silent", "with bytes"])
def test_it_comes_up_inside_an_agent_with_an_open_pipe_as_its_input(
    new_place: Any, typed: bytes
) -> None:
    place = new_place()
    theirs, ours = os.pipe()
    os.write(ours, typed)
    inherited = os.dup(theirs)
    os.set_inheritable(inherited, True)
    try:
        subprocess.run(
            [*place.command, "up"], cwd=place.root, env={**place.environ, **AGENT},
            stdin=theirs, capture_output=True, timeout=90, check=True, pass_fds=[inherited],
        )  # fmt: skip
        pipe = os.readlink(f"/proc/self/fd/{theirs}")
        for process in place.processes():
            assert not AGENT.keys() & process.environ().keys(), process
            assert pipe not in descriptors(process.pid), process
        assert place.ask("still there?")["answer"] == "still there?"
        assert len(place.names()) == 3
    finally:
        for descriptor in (theirs, ours, inherited):
            os.close(descriptor)


def descriptors(pid: int) -> list[str]:
    return [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
