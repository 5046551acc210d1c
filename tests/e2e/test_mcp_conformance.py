"""The gateway before the official conformance suite of the protocol, of both its eras.

The suite is a program for Node 22 or newer; npm brings both, into build/. It knows of no tokens,
so a proxy adds one. Most of its scenarios call tools, resources and prompts of a server that was
made for them; which those are is said in docs/mcp.md, and the sets here are asserted whole.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
PAGE = Path(__file__).parents[2] / "docs" / "mcp.md"
GOOD = ("SUCCESS", "INFO")
PASSED = {
    "2025-11-25": {
        "completion-complete",
        "dns-rebinding-protection",
        "logging-set-level",
        "ping",
        "prompts-list",
        "resources-list",
        "resources-subscribe",
        "resources-unsubscribe",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "tools-call-error",
        "tools-call-simple-text",
        "tools-list",
    },
    "2026-07-28": {
        "caching",
        "completion-complete",
        "dns-rebinding-protection",
        "http-header-validation",
        "input-required-result-ignore-extra-params",
        "input-required-result-unsupported-methods",
        "prompts-list",
        "resources-list",
        "sep-2164-resource-not-found",
        "server-sse-multiple-streams",
        "tools-call-error",
        "tools-call-simple-text",
        "tools-list",
    },
}
# Of server-stateless: two checks call a tool of a server that was made for the suite, and two are
# skipped for a server that does not say that its lists change.
STATELESS = {
    "sep-2575-server-rejects-undeclared-capability",
    "sep-2575-missing-capability-http-400",
    "sep-2575-server-sends-prompts-list-changed-on-subscription",
    "sep-2575-server-sends-tools-list-changed-on-subscription",
}


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


def checked(url: str, revision: str, folder: Path) -> dict[str, set[str]]:
    """Run what a revision requires and return which checks each scenario does not pass."""
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
        found[named[1]] = {each["id"] for each in checks if each["status"] not in GOOD}
    assert found, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return found


@pytest.mark.parametrize("revision", PASSED)
def test_the_official_suite_finds_what_it_looks_for(
    url: str, revision: str, tmp_path: Path
) -> None:
    found = checked(url, revision, tmp_path)
    assert {each for each, missed in found.items() if not missed} == PASSED[revision], found
    assert found.get("server-stateless") == (STATELESS if revision == "2026-07-28" else None)
    page = PAGE.read_text()
    assert [each for each in found if f"`{each}`" not in page] == []
