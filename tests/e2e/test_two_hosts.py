"""docs/postgres.md, typed as it stands: two hosts, each with a folder of its own."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from place import Place, leaving_no_process
from postgres_server import DatabaseServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "postgres.md").read_text()
# Of the page; the server of the tests has others.
NAME, URL = "agents", "postgresql://agents@db.example.org/agents?sslmode=verify-full"


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)[number]


@pytest.fixture
def url(postgres: DatabaseServer) -> Iterator[str]:
    """What the administrator's lines have made, by a name of its own."""
    name = f"{NAME}_{os.getpid()}"
    for line in block("sql").splitlines():
        postgres.run_sql(re.sub(rf"\b{NAME}\b", name, line))
    yield f"{postgres.url(name)}&user={name}"
    postgres.drop_database(name)
    postgres.run_sql(f"DROP ROLE {name}")


class Host:
    """A user's folder on one host, in which the lines of the page are typed."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        self._url = url
        self._state = tempfile.TemporaryDirectory(prefix="ap-")  # short enough for sockets
        kept = {name: text for name, text in os.environ.items() if not name.startswith("AUTOPOLL_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = {"HOME": str(folder), "XDG_STATE_HOME": self._state.name}
        self._environ = {**kept, **home, "PATH": path}

    def type(self, lines: str) -> str:
        """Run lines of a shell, all of which must go well; return what they print."""
        script = lines.replace(URL, self._url)
        done = subprocess.run(
            ["bash", "-euc", script], env=self._environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def down(self) -> None:
        self.type("autopoll down --home ~/agents")
        self._state.cleanup()


@pytest.mark.long
def test_ten_lines_lead_from_nothing_to_two_hosts(tmp_path: Path, url: str) -> None:
    pip, *lines = block("sh").splitlines()
    assert pip == "pip install 'autopoll[postgres]'"
    assert URL in "\n".join(lines)
    assert len(block("sql").splitlines()) + 1 + len(lines) == 10
    with leaving_no_process(), ExitStack() as closing:
        for number in (1, 2):
            host = Host(tmp_path / f"host-{number}", url)
            closing.callback(host.down)
            said = host.type("\n".join(lines))
        table = said[said.index("host ") :].splitlines()
        assert [line.split("main")[0].split()[-1] for line in table[1:]] == ["yes", "yes"], said
        with psycopg.connect(url, autocommit=True) as server:
            assert server.execute(block("sql", 1)).fetchall() == []
        assert host.type("autopoll ask 'Once more?' --home ~/agents")


@pytest.mark.long
def test_a_bridge_is_moved_over_as_the_page_says(
    new_place: Callable[[], Place], database: str
) -> None:
    place = new_place()
    place.run("up")
    place.ask("before")
    place.run("down")
    place.run("bridge", "copy", "sqlite:///var/bridge.db", database)
    text = (place.root / "autopoll.toml").read_text()
    (place.root / "autopoll.toml").write_text(f'{text}[bridge]\nurl = "{database}"\n')
    place.run("up")
    assert place.ask("after")["answer"] == "after"
    assert place.json("health")["verdict"] == "ok"


def test_every_error_that_the_page_names_exists() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "autopoll" / "bridge").rglob("*.py"))
    named = re.findall(r"^\| `([^`]+)` \|", PAGE[PAGE.index("## What errors mean") :], re.M)
    assert len(named) > 12
    parts = [part.strip() for words in named for part in words.split("…")]
    assert [part for part in parts if part not in code] == []
