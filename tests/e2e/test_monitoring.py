"""Alarms and dashboard ask for what is really served, and what the runbook says can be typed."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from doors import Door

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
PROMTOOL = shutil.which("promtool")  # without it, what is asked for is only compared
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
ALARMS = (ROOT / "docs" / "operations.md").read_text().partition("\n## Alarms\n")[2]
ROWS = re.findall(r"^\| `(Autopoll\w+)` \| .+ \| (.+) \|$", ALARMS.partition("\n## ")[0], re.M)
COMMANDS = sorted({word for _, cell in ROWS for word in re.findall(r"`(autopoll [^`]+)`", cell)})
# Grafana's own, by what stands in their place when it asks.
VARIABLES = {"$__rate_interval": "5m", "$job": "autopoll", "$instance": ".*", "$shard": ".*"}


def expressions() -> list[str]:
    found = [rule["expr"] for rule in RULES]
    for panel in PANELS:
        for target in panel["targets"]:
            expr = target["expr"]
            for variable, value in VARIABLES.items():
                expr = expr.replace(variable, value)
            found.append(expr)
    return found


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(tmp_path_factory.mktemp("monitored") / "home")
    place = made.place
    try:
        place.run("up")
        made.serves()
        made.open_gate()
        place.ask("still there?", "--shard", "echo")
        yield made
    finally:
        place.close()


def served(text: str) -> dict[str, set[str]]:
    """Return the labels of each series that is served, none where there is no sample yet."""
    found: dict[str, set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        ends = ["_bucket", "_count", "_sum"] if kind == "histogram" else [""]
        found |= {f"{name}{end}": set() for end in ends}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_every_metric_that_is_asked_for_is_served_with_its_labels(door: Door) -> None:
    with door.client() as client:
        there = served(client.get("/metrics").text)
    for expr in expressions():
        for name in re.findall(r"\bautopoll_\w+", expr):
            assert name in there, f"{name} is not served: {expr}"
        own = set(re.findall(r"(\w+)=~?\"", expr))
        for grouped in re.findall(r"\b(?:by|on) \(([\w, ]+)\)", expr):
            own |= set(re.split(r", ", grouped))
        names = re.findall(r"\bautopoll_\w+", expr)
        known = {"job", "instance"}.union(*(there[name] for name in names))
        if all(there[name] for name in names):
            assert own <= known, f"{own - known} is no label: {expr}"


def test_every_metric_that_is_served_is_on_the_dashboard(door: Door) -> None:
    asked = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    with door.client() as client:
        names = re.findall(r"^# TYPE (autopoll_\w+) ", client.get("/metrics").text, re.M)
    assert [name for name in names if name not in asked] == []


def test_promtool_takes_the_alarms_and_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    if PROMTOOL is None:
        return
    rules = [{"record": f"x:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    for words in (
        ["check", "rules", str(MONITORING / "rules.yml"), str(file)],
        ["test", "rules", str(MONITORING / "rules_test.yml")],
    ):
        done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alarm_is_tried_and_has_its_row_in_the_runbook() -> None:
    names = [rule["alert"] for rule in RULES]
    assert sorted(names) == sorted(name for name, _ in ROWS)
    tried = (MONITORING / "rules_test.yml").read_text()
    assert [name for name in names if f'alertname="{name}"' not in tried] == []
    assert all("`autopoll " in cell for _, cell in ROWS)


def test_every_command_of_the_alarms_can_be_typed(door: Door) -> None:
    place = door.place
    asked: dict[str, Any] = place.ask("who waits?", "--shard", "echo")
    values = {"NAME": "worker-echo-1", "SHARD": "echo", "ID": str(asked["id"])}
    for command in COMMANDS:
        words = [values.get(word, word) for word in shlex.split(command)[1:]]
        done = place.run(*words, "--json", code=None)  # top wants a terminal without it
        # Already up, nothing there, not of that kind: no mistake in what was typed.
        assert done.returncode in (0, 1, 2), f"{command}: {done.stderr}"
        assert "no command" not in done.stderr
    place.ready("poller", "worker-echo-1")
    assert place.ask("and now?", "--shard", "echo")["status"] == "answered"
