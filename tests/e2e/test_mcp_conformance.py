"""The gateway before the official conformance suite of the protocol, of both its eras.

The suite is a program for Node 22 or newer; npm brings both, into build/. It knows of no tokens,
so a proxy adds one. Most of its scenarios call tools, resources and prompts of a server that was
made for them; docs/mcp.md says which those are and which pass, and is compared with the results.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from agents import free_port
from place import Place
from token_proxy import TokenProxy

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE = "node@22"
NAME = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT.*")  # of a folder of results
BUILD = Path(__file__).parents[2] / "build"
CONFIG = """
[shards.main]
backend = "echo"
[gateway]
enabled = true
listen = "127.0.0.1:{port}"
allowed_origins = ["http://127.0.0.1:{proxy}"]
"""
SCENARIO = re.compile(r"`([a-z0-9-]+)`")  # of a cell of the page
PAGE = Path(__file__).parents[2] / "docs" / "mcp.md"
GOOD = ("SUCCESS", "INFO")
REVISIONS = ("2025-11-25", "2026-07-28")
PARTLY = "server-stateless"
# Of server-stateless: two checks call a tool of a server that was made for the suite, and two are
# skipped for a server that does not say that its lists change.
STATELESS = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-sends-prompts-list-changed-on-subscription",
    "sep-2575-server-sends-tools-list-changed-on-subscription",
}


class Check(NamedTuple):
    """One check of a scenario, and whether it passed."""

    id: str
    passed: bool


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the suite finds a gateway, with ours in place of what it knows by other names."""
    port, proxy = free_port(), free_port()
    place = Place(
        tmp_path_factory.mktemp("conformance") / "home", CONFIG.format(port=port, proxy=proxy)
    )
    with place.running():
        token = place.json("gateway", "token")["token"]
        conversation = place.json("conversations", "create")["conversation"]
        names = {
            "test://watched-resource": f"autopoll://conversations/{conversation}",
            "test_prompt_with_arguments": "ask_a_shard",
            '"arg1"': '"shard"',
            "test_simple_text": "list_shards",
        }
        with TokenProxy(proxy, port, token, names):
            yield f"http://127.0.0.1:{proxy}/mcp"


def checked(url: str, revision: str, folder: Path) -> dict[str, list[Check]]:
    """Run what a revision requires and return the checks of each scenario."""
    npx = shutil.which("npx")
    assert npx, "npm is missing, which brings Node and the suite: apt-get install npm"
    run = ["conformance", "server", "--url", url, "--requirements", revision, "-o", str(folder)]
    done = subprocess.run(
        [npx, "--yes", f"--package={NODE}", f"--package={SUITE}", *run],
        cwd=folder,
        env=os.environ | {"npm_config_cache": str(BUILD / "npm"), "npm_config_audit": "false"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    found = {}
    for path in folder.glob("server-*/checks.json"):
        named = NAME.fullmatch(path.parent.name)
        assert named, path
        checks = json.loads(path.read_text())
        found[named[1]] = [Check(each["id"], each["status"] in GOOD) for each in checks]
    assert found, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return found


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of a table of the page, the heading first."""
    table = page[page.index(heading) :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def scenarios(cell: str) -> set[str]:
    return set(SCENARIO.findall(cell))


def said_to_pass(page: str, revision: str) -> set[str]:
    """Return the scenarios in the column of a revision; `the same` is the cell before it."""
    heading, _, *lines = rows(page, "| | at ")
    column = heading.index(f"at {revision}")
    found = set()
    for cells in lines:
        found |= scenarios(cells[column])
        if cells[column].startswith("the same"):
            found |= scenarios(cells[column - 1])
    return found


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_official_suite_passes_what_the_page_says(
    url: str, revision: str, tmp_path: Path
) -> None:
    page = PAGE.read_text()
    found = checked(url, revision, tmp_path)
    passed = {name for name, checks in found.items() if all(each.passed for each in checks)}
    assert passed == said_to_pass(page, revision), found
    needing = {name for cells in rows(page, "| scenario |") for name in scenarios(cells[0])}
    assert found.keys() - passed - {PARTLY} - needing == set()
    assert (PARTLY in found) == (revision == REVISIONS[-1])
    if PARTLY in found:
        assert {each.id for each in found[PARTLY] if not each.passed} == STATELESS
        assert f"Of `{PARTLY}`, {sum(each.passed for each in found[PARTLY])} checks pass" in page
