"""docs/distributed-memory.md is run as it stands there, but for what needs a key."""

import re
import subprocess
from pathlib import Path

import pytest
from place import Place

from autopoll.home.home import Home

PAGE = Path(__file__).parents[2] / "docs" / "distributed-memory.md"
MARK = "=== next block"


@pytest.mark.long
@pytest.mark.timeout(450)
def test_every_command_of_the_page_does_what_it_says(new_place, tmp_path) -> None:
    place = new_place()  # for its environment; the page makes a home of its own
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    script = f"echo '{MARK}'\n".join(["", *blocks])
    (tmp_path / "page").mkdir()
    try:
        done = subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=tmp_path / "page",
            env=place.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
        )
    finally:
        made = Place.__new__(Place)
        made.root, made.command, made.environ = (
            tmp_path / "page/project",
            place.command,
            place.environ,
        )
        made.home, made.state = Home(made.root), place.state
        left = made.processes()
        made.run("down", code=None)
    assert done.returncode == 0, done.stderr
    assert not left
    said = done.stdout.split(MARK)[1:]
    assert len(said) == len(blocks)
    shown = dict(zip(blocks, said, strict=True))

    def of(command: str) -> str:
        [text] = [text for block, text in shown.items() if command in block]
        return text

    assert of("shards add history").count("is ready") == 4
    asked = of("--all")
    assert "Left to do: the same for the exporter" in asked
    assert "nobody wants to run a database server" in asked
    assert asked.count("--- shard") == 2 + 5
    assert "runbook.md:" in asked
    assert of("shards test").count("ok    canary") == 5
    assert "The exporter streams as well" in of("Tuesday")
