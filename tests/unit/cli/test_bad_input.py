"""Every command in every bad state: the right exit code, one clear line, and nothing lost.

Each line of `json_schemas.RUNS` runs in a copy of one home that is down, so that it has nothing of
the runs before. The short tests give each line one state, and each parameter one value.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click
import json_schemas
import pytest
from bridge_calls import OWN, answered, ask, claim, failed, settle, talk
from place import Place
from test_json_coverage import EVERY

from autopoll.cli import commands
from autopoll.errors import Exit
from autopoll.process.incident_log import record
from autopoll.text import visible

WAYS_PROGRAM = Path(__file__).parents[2] / "data" / "ways.py"
CONFIG = """
[shards.main]
backend = "echo"
[shards.docs]
backend = "extract"
"""
EVIL = "\x1b]0;gone\x07 \x9b2J \u202e grüße"
# They run on until they are stopped, or start what does; without a home they end at once.
GO_ON = {"poller", "worker", "watchdog", "gateway", "up"}
LINES = [
    *dict.fromkeys(line for line in json_schemas.RUNS if line not in GO_ON),
    "mcp",
    "desk",
    f"bridge copy sqlite:///var/bridge.db postgresql://nobody@127.0.0.1:1/{'x' * 40}",
    "faults nonsense",
]
STREAM_WAYS = ["closed", "errors closed", "both closed", "full", "errors full", "gone", "both gone"]
BAD_WAYS = [
    *STREAM_WAYS, "no home", "no input", "LANG=C", "20 columns", "Ctrl-C 3", "Ctrl-C 15",
    "Ctrl-C 40",
]  # fmt: skip
UGLY = ["", EVIL, "9" * 400, "-1", "nan", "x" * 5000, "no/../such", "1e999s"]
NO_HOME_NEEDED = {"init", "top", "bridge sql", "bridge copy", "faults", "completion"}


class Came(NamedTuple):
    """What came of one run: its exit code, what it printed, and the messages that are there."""

    code: int
    out: str
    err: str
    messages: int


class Round:
    """A home that is down, with something for every command, and runs in copies of it."""

    def __init__(self, root: Path) -> None:
        place = Place(root, CONFIG)
        with closing(place.bridge()) as bridge:
            dead, _ = ask(bridge, talk(bridge, "docs"), "one", EVIL, metadata=OWN)
            for each in claim(bridge, 2, "docs"):
                settle(bridge, failed(each, permanent=True))
            own = talk(bridge)
            number, _ = ask(bridge, own, "why?", EVIL * 50, metadata=OWN)
            (delivery,) = claim(bridge, 1)
            settle(bridge, answered(delivery, EVIL))
        record(place.home.incidents, process="worker", verdict="dead", action="", evidence=EVIL)
        place.run("backup", "copy.db")
        self.home = root
        self.environ = place.environ | {"HOME": str(root.parent)}
        self.known = {"dead": dead, "answered": number, "own": own, "conversation": own}
        self.messages = len(place.json_lines("messages"))
        place.state.cleanup()

    def args(self, line: str) -> list[str]:
        return shlex.split(line.format(**self.known))

    def run(self, runs: list[tuple[list[str], str]]) -> list[Came]:
        done = subprocess.run(
            [sys.executable, WAYS_PROGRAM, self.home],
            input=json.dumps(runs),
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [Came(*each) for each in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Round:
    return Round(tmp_path_factory.mktemp("h") / "home")


def path_of(line: str) -> str:
    """Return which command a line runs."""
    return max((path for path in EVERY if f"{line} ".startswith(f"{path} ")), key=len)


def expected(line: str, way: str, good: Came) -> set[int]:
    """Return the exit codes that a line may have in this state."""
    if way == "no home":
        return {good.code if path_of(line) in NO_HOME_NEEDED else Exit.DOWN}
    if way.startswith("Ctrl-C"):
        return {good.code, Exit.INTERRUPTED}
    if path_of(line) == "mcp" and way in ("closed", "both closed", "no input"):
        return {Exit.USAGE}
    if way in ("closed", "both closed", "full") and good.out:
        return {max(good.code, Exit.FAILED)}
    return {Exit.READER_GONE if way in ("gone", "both gone") and good.out else good.code}


def faults_of(name: str, came: Came, codes: set[int], messages: int) -> Iterator[str]:
    """Yield what is wrong with what came."""
    said = came.out + came.err
    if came.code not in codes:
        yield f"{name}: exit {came.code}, not {codes}: {said[-300:]!r}"
    if "Traceback" in said or "this is a bug" in said:
        yield f"{name}: {said[-300:]!r}"
    if visible(said) != said and "20 columns" not in name:
        yield f"{name}: not made harmless: {said[-300:]!r}"
    if came.messages < messages:
        yield f"{name}: {messages - came.messages} messages are lost"
    if len(came.err) > 3000:
        yield f"{name}: says {len(came.err)} characters: {came.err[:80]!r} {came.err[-80:]!r}"


def check(bad: Round, table: dict[str, list[str]]) -> None:
    """Run lines in their states, and hold them to what they come to in none."""
    runs = [(line, way) for line, ways in table.items() for way in ("good", *ways)]
    found: list[str] = []
    good = Came(0, "", "", 0)
    came = bad.run([(bad.args(line), way) for line, way in runs])
    for (line, way), each in zip(runs, came, strict=True):
        good = each if way == "good" else good
        codes = expected(line, way, good) if way != "good" else {0, 1, 2, 3, 4}
        found += faults_of(f"{line}, {way}", each, codes, bad.messages)
    assert not found, "\n".join(found)


def test_every_command_has_a_line_that_goes_through_the_bad_states() -> None:
    assert {path_of(line) for line in LINES} | GO_ON == set(EVERY)


@pytest.mark.long
def test_every_command_ends_well_in_a_bad_state(bad: Round) -> None:
    check(bad, {line: [BAD_WAYS[n % len(BAD_WAYS)]] for n, line in enumerate(LINES)})


@pytest.mark.long
def test_every_command_ends_well_in_every_bad_state(bad: Round) -> None:
    check(bad, dict.fromkeys(LINES, BAD_WAYS))


def test_what_runs_on_ends_at_once_without_a_home(bad: Round) -> None:
    names = sorted(GO_ON)
    for path, came in zip(names, bad.run([([each], "no home") for each in names]), strict=True):
        assert came.code in (Exit.DOWN, Exit.BAD_CONFIG), path
        assert list(faults_of(path, came, {came.code}, bad.messages)) == []


def ugly_runs(bad: Round) -> Iterator[tuple[list[str], str, str]]:
    """Yield for every parameter of every command its line with each value, as that parameter's."""
    for path in EVERY:
        command: click.Command = commands
        context = click.Context(commands)
        for word in path.split():
            assert isinstance(command, click.Group)
            found = command.get_command(context, word)
            assert found
            command = found
        way = "no home" if path in GO_ON else "good"
        line = next((line for line in LINES if path_of(line) == path), path)
        for param in command.params:
            if isinstance(param, click.Option) and (param.is_flag or "--home" in param.opts):
                continue
            for value in UGLY:
                if isinstance(param, click.Option):
                    yield [*bad.args(line), param.opts[-1], value], way, f"{path} {param.name}"
                else:
                    yield [*path.split(), "--", value], way, f"{path} {param.name}"


def check_ugly(bad: Round, runs: list[tuple[list[str], str, str]]) -> None:
    found: list[str] = []
    came = bad.run([(args, way) for args, way, _ in runs])
    for (args, _, name), each in zip(runs, came, strict=True):
        codes = {0, 1, 2, 3, 4, 5, Exit.BAD_CONFIG}
        found += faults_of(f"{name} {args[-1][:30]!r}", each, codes, bad.messages)
    assert not found, "\n".join(found)


@pytest.mark.long
def test_every_parameter_takes_or_refuses_an_ugly_value(bad: Round) -> None:
    runs = list(ugly_runs(bad))
    check_ugly(bad, runs[:: len(UGLY) + 1])


@pytest.mark.long
def test_every_parameter_takes_or_refuses_every_ugly_value(bad: Round) -> None:
    check_ugly(bad, list(ugly_runs(bad)))
