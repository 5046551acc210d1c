"""`incidents` and `dead list` from a moment on."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from bridge_calls import OWN, ask, claim, failed, settle, talk
from prepared_home import prepared_home

from autopoll.bridge.connect import connect
from autopoll.cli import main
from autopoll.home.config import load
from autopoll.process import incident_log


def test_only_what_failed_from_a_moment_on_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = prepared_home(tmp_path)
    incident_log.record(
        home.incidents, process="worker", verdict="dead", action="left", evidence="x"
    )
    old = json.loads(home.incidents.read_text()) | {"at": "2020-03-01T10:00:00.000Z", "id": "old"}
    with home.incidents.open("a") as file:
        file.write("\n" + json.dumps(old))
    with closing(connect(home, load(home, {}))) as bridge:
        ask(bridge, talk(bridge), "one", metadata=OWN)
        [held] = claim(bridge)
        settle(bridge, failed(held, permanent=True))
    for command, since, count in (
        (["incidents"], [], 2), (["incidents"], ["--since", "1h"], 1),
        (["incidents"], ["--since", "2020-01-01"], 2),
        (["incidents"], ["--since", "2999-01-01"], 0),
        (["dead", "list"], ["--since", "1h"], 1), (["dead", "list"], ["--since", "2999-01-01"], 0),
    ):  # fmt: skip
        assert main([*command, *since, "--json", "--home", str(home.root)]) == 0
        assert len(capsys.readouterr().out.splitlines()) == count, (command, since)
    for ugly in ("soon", "", "-1h", "9" * 40 + "d"):
        assert main(["incidents", "--since", ugly, "--home", str(home.root)]) == 4
        assert "Traceback" not in capsys.readouterr().err
