"""What supervisord, and by it every role, is handed of our environment."""

from pathlib import Path

import pytest

from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.supervisord_launch import supervisord_environment


@pytest.mark.parametrize(("url", "handed"), [("postgresql://db", True), ("sqlite:///x", False)])
def test_the_variables_of_libpq_are_handed_on_for_a_bridge_on_a_server(
    tmp_path: Path, url: str, handed: bool
) -> None:
    home = Home(tmp_path)
    home.config.write_text(f"[shards.main]\nbackend = 'echo'\n[bridge]\nurl = '{url}'\n")
    ours = {"PGPASSWORD": "x", "PGSERVICEFILE": "/y", "PGx": "no", "DATABASE_URL": "no"}
    found = supervisord_environment(ours, load(home, {}))
    assert {name for name in found if name in ours} == (
        {"PGPASSWORD", "PGSERVICEFILE"} if handed else set()
    )
