"""`autopoll init --bridge URL` and `autopoll bridge sql`; a file stands for the server."""

import io
import json
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from answerers import answerer

from autopoll.bridge.connect import connect
from autopoll.bridge.records import BridgeLimits
from autopoll.bridge.sqlite import SqliteBridge
from autopoll.cli import main
from autopoll.errors import BridgeUnavailable, Exit
from autopoll.home import credentials
from autopoll.home.config import load
from autopoll.home.home import Home

URL = "postgresql://agents@db.example.org/agents"
PASSWORD = "hunter2"
WITH_PASSWORD = f"postgresql://agents:{PASSWORD}@db.example.org/agents"


class Server:
    """What the engine is given, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "server.db"
        self.opened: list[str] = []
        self.is_away = False

    def open(self, url: str, limits: BridgeLimits, **how: Any) -> SqliteBridge:
        self.opened.append(url)
        assert how.pop("listen_url") is None
        if self.is_away:
            raise BridgeUnavailable("the server of the bridge does not answer", "Start it.")
        return SqliteBridge(self.file, limits, **how)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(tmp_path)
    engine = ModuleType("autopoll.bridge.postgres")
    engine.PostgresBridge = made.open  # type: ignore[attr-defined]
    schema = ModuleType("autopoll.bridge.postgres.schema")
    schema.schema_sql = lambda: "CREATE SCHEMA autopoll;\n"  # type: ignore[attr-defined]
    schema.grants_sql = lambda role: f'GRANT USAGE TO "{role}";\n'  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, engine.__name__, engine)
    monkeypatch.setitem(sys.modules, schema.__name__, schema)
    return made


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)

    def go(*args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(list(args))
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        assert PASSWORD not in out.out + out.err
        return code, out.out, out.err

    with tempfile.TemporaryDirectory(prefix="ap-") as state:  # short enough for sockets
        monkeypatch.setenv("XDG_STATE_HOME", state)
        yield go


def test_a_home_founds_a_bridge_and_another_joins_it_with_sessions_of_its_own(
    run: Run, server: Server, tmp_path: Path
) -> None:
    code, out, _ = run("init", "one", "--bridge", URL)
    assert code == Exit.OK
    assert f"its bridge is {URL}, which no other home answers for yet" in out
    one, two = Home(tmp_path / "one"), Home(tmp_path / "two")
    assert not (one.var / "bridge.db").exists()
    assert f'\n[bridge]\nurl = "{URL}"\n' in one.config.read_text()
    with closing(connect(one, load(one, {}))) as bridge:
        bridge.deliveries.take_over(answerer(home="1" * 32, host="elsewhere"), 60_000)
    code, out, _ = run("init", "two", "--bridge", URL, "--json")
    made = json.loads(out)
    assert (code, made["bridge"]) == (Exit.OK, URL)
    assert [each["host"] for each in made["hosts"]] == ["elsewhere"]
    kept = [credentials.read(home).shards["main"] for home in (one, two)]
    assert kept[0] != kept[1] == made["conversation"]
    with closing(connect(two, load(two, {}))) as bridge:
        assert {each.id for each in bridge.conversations.all()} == {*kept}
    assert "shared with 1 other home\n" in run("init", "three", "--bridge", URL)[1]


def test_without_it_init_says_what_it_always_has(run: Run) -> None:
    assert json.loads(run("init", "x", "--json")[1]).keys() == {"home", "conversation", "tokens"}


def test_a_url_on_stdin_may_hold_a_password_which_nobody_else_can_read(
    run: Run, server: Server, tmp_path: Path
) -> None:
    code, out, _ = run("init", "x", "--bridge", "-", stdin=f"{WITH_PASSWORD}\n".encode())
    home = Home(tmp_path / "x")
    assert code == Exit.OK and f"its bridge is {URL}," in out
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600
    assert load(home, {}).bridge.url.full == WITH_PASSWORD
    assert {*server.opened} == {WITH_PASSWORD}
    assert run("init", "x", "--bridge", URL)[0] == Exit.OK
    home.config.chmod(0o644)
    code, _, err = run("init", "x", "--bridge", URL)
    assert code == Exit.USAGE and "chmod 600" in err


def test_a_file_may_be_named_too(run: Run, tmp_path: Path) -> None:
    path = tmp_path / 'a "b" \u00fc'
    assert run("init", "x", "--bridge", f"sqlite:///{path}")[0] == Exit.OK
    assert path.is_file()
    assert load(Home(tmp_path / "x"), {}).bridge.url.file(Path("/")) == path


def test_a_home_that_has_another_bridge_keeps_it(run: Run, server: Server, tmp_path: Path) -> None:
    assert run("init", "x")[0] == Exit.OK
    before = (tmp_path / "x" / "autopoll.toml").read_text()
    code, out, err = run("init", "x", "--bridge", URL)
    assert (code, out) == (Exit.USAGE, "")
    assert "is a home already, with the bridge sqlite:///var/bridge.db" in err
    assert (tmp_path / "x" / "autopoll.toml").read_text() == before
    assert server.opened == []


def test_a_url_that_differs_in_how_safe_it_is_is_another(
    run: Run, server: Server, tmp_path: Path
) -> None:
    assert run("init", "x", "--bridge", f"{URL}?sslmode=verify-full")[0] == Exit.OK
    code, _, err = run("init", "x", "--bridge", f"{URL}?sslmode=disable")
    assert code == Exit.USAGE
    assert f"is a home already, with the bridge {URL}?sslmode=verify-full" in err


def test_a_server_that_is_away_makes_no_home_so_that_another_url_can_be_tried(
    run: Run, server: Server, tmp_path: Path
) -> None:
    server.is_away = True
    code, out, err = run("init", "x", "--bridge", URL)
    assert (code, out) == (Exit.DOWN, "")
    assert err == "autopoll: the server of the bridge does not answer\n  Start it.\n"
    assert not (tmp_path / "x" / "autopoll.toml").exists()
    server.is_away = False
    assert run("init", "x", "--bridge", "postgresql://other")[0] == Exit.OK


@pytest.mark.parametrize(
    ("args", "stdin", "words"),
    [
        (["--bridge"], b"", "argument"),
        (["--bridge", ""], b"", "names no store"),
        (["--bridge", "x.db"], b"", "names no store"),
        (["--bridge", "sqlite:///"], b"", "names no store"),
        (["--bridge", f"mysql://a:{PASSWORD}@b/c"], b"", "mysql://…"),
        (["--bridge", WITH_PASSWORD], b"", "--bridge -"),
        (["--bridge", f"postgresql://db?password={PASSWORD}"], b"", "~/.pgpass"),
        (["--bridge", f"postgresql://a:{PASSWORD}@b@c"], b"", "%40"),
        (["--bridge", "postgresql://a b"], b"", "cannot be read"),
        (["--bridge", "postgresql://a:port/"], b"", "cannot be read"),
        (["--bridge", "\udcff"], b"", "UTF-8"),
        (["--bridge", "-"], b"", "no url"),
        (["--bridge", "-"], b" \n", "no url"),
        (["--bridge", "-"], b"\xff\xfe", "UTF-8"),
        (["--bridge", "-"], b"postgresql://\0", "cannot be read"),
        (["--bridge", "-"], f"{URL}\n{URL}\n".encode(), "cannot be read"),
        (["--bridge", "-"], b"postgresql://" + b"x" * 10_000, "no url"),
        (["--bridge", "-"], f"host=db password={PASSWORD}".encode(), "names no store"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_no_url_makes_nothing(
    run: Run,
    server: Server,
    tmp_path: Path,
    args: list[str],
    stdin: bytes,
    words: str,
    as_json: bool,
) -> None:
    code, out, err = run("init", "x", *["--json"] * as_json, *args, stdin=stdin)
    assert (code, out) == (Exit.USAGE, "")
    assert words in (json.loads(err)["error"] + json.loads(err)["mend"] if as_json else err)
    assert server.opened == []
    assert [path.name for path in tmp_path.iterdir()] in ([], ["state"])


# --- the SQL


def test_the_sql_is_printed_for_a_role_without_any_home(run: Run, server: Server) -> None:
    code, out, err = run("bridge", "sql")
    assert (code, err) == (Exit.OK, "")
    lines = out.splitlines()
    assert lines[1::2] == ["CREATE SCHEMA autopoll;", 'GRANT USAGE TO "autopoll";']
    assert all(line.startswith("-- ") for line in lines[::2])
    assert json.loads(run("bridge", "sql", "--role", 'a"b \u00fc', "--json")[1]) == {
        "schema": "CREATE SCHEMA autopoll;\n",
        "grants": 'GRANT USAGE TO "a"b \u00fc";\n',
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sql", "--role", ""], "no name of a role"),
        (["sql", "--role", "a\nDROP"], "no name of a role"),
        (["sql", "--role", "a\0b"], "no name of a role"),
        (["sql", "--role", "\x1b[2J"], "no name of a role"),
        (["sql", "--role", "x" * 64], "no name of a role"),
        (["sql", "--role", "\u00fc" * 32], "no name of a role"),
        (["sql", "--role"], "argument"),
        (["sql", "--role", "\udcff"], "UTF-8"),
        (["sql", "x"], "unexpected"),
        (["sql", "--owner", "x"], "--owner"),
        (["drop"], "drop"),
        ([], "bridge"),
    ],
)
def test_wrong_usage_of_the_sql_is_named(
    run: Run, server: Server, args: list[str], words: str
) -> None:
    code, out, err = run("bridge", *args)
    assert (code, out) == (Exit.USAGE, "")
    assert words in err
    assert "\x1b" not in err
