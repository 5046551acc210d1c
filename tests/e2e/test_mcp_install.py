"""Agents' programs are told of a home, and nothing else in their files is touched."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import at_stdio, play
from place import ECHO, ORDINARY, Place

HTTP = ECHO + '[gateway]\nlisten = "127.0.0.1:8901"\n'
FILES = {
    "claude-code": (".mcp.json", None, "mcpServers"),
    "claude-desktop": (None, ".config/Claude/claude_desktop_config.json", "mcpServers"),
    "cursor": (".cursor/mcp.json", ".cursor/mcp.json", "mcpServers"),
    "vscode": (".vscode/mcp.json", ".config/Code/User/mcp.json", "servers"),
}


class Here:
    """A folder in which somebody works, and a user who has a home folder of their own."""

    def __init__(self, place: Place, root: Path, user: Path) -> None:
        self.place, self.root, self.user = place, root, user
        root.mkdir()
        user.mkdir()
        self.environ = place.environ | {"HOME": str(user)}
        self.environ.pop("XDG_CONFIG_HOME", None)
        self.ordinary = False

    def run(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = self.place.command if not self.ordinary else [*ORDINARY, *self.place.command]
        done = subprocess.run(
            [*command, "--home", str(self.place.root), "mcp", "install", *args],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done

    def install(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def refused(self, *args: str) -> str:
        return self.run(*args, code=4).stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("install") / "home", HTTP)
    yield made
    made.close()


@pytest.fixture
def here(place: Place, tmp_path: Path) -> Here:
    return Here(place, tmp_path / "work", tmp_path / "user")


@pytest.mark.parametrize("client", FILES)
@pytest.mark.parametrize("scope", ["project", "user"])
def test_each_program_is_told_in_its_own_file(here: Here, client: str, scope: str) -> None:
    project, user, table = FILES[client]
    name = project if scope == "project" else user
    if name is None:
        text = here.refused("--client", client, "--scope", scope)
        assert "settings of a" in text
        return
    said = here.install("--client", client, "--scope", scope)
    path = (here.root if scope == "project" else here.user) / name
    assert (said["file"], said["change"]) == (str(path), "added")
    entry = json.loads(path.read_text())[table]["autopoll"]
    assert entry == said["entry"]
    assert entry["args"][-3:] == ["mcp", "--home", str(here.place.root)]
    assert Path(entry["command"]).is_absolute()
    assert here.install("--client", client, "--scope", scope)["change"] == "unchanged"


@pytest.mark.long
def test_what_was_written_starts_a_server_from_anywhere(here: Here) -> None:
    entry = here.install()["entry"]

    async def story() -> None:
        async with at_stdio(
            here.place, command=[entry["command"], *entry["args"]], cwd=here.user
        ) as agent:
            assert (await agent.get("list_shards"))["shards"][0]["name"] == "main"

    play(story)


def test_everything_else_in_the_file_stays(here: Here) -> None:
    path = here.root / ".mcp.json"
    held = {
        "other": [1, {"é": None}],
        "mcpServers": {"first": {"command": "x", "env": {"A": "b"}}, "autopoll": {"old": True}},
        "zuletzt": 1.5,
    }
    path.write_text(json.dumps(held, indent="\t", ensure_ascii=False))
    path.chmod(0o640)
    said = here.install()
    assert said["change"] == "replaced"
    text = path.read_text()
    assert "\n\t" in text
    assert "é" in text
    now = json.loads(text)
    assert list(now) == list(held)
    assert now.pop("mcpServers") == {
        "first": held["mcpServers"]["first"],  # type: ignore[call-overload, index]
        "autopoll": said["entry"],
    }
    held.pop("mcpServers")
    assert now == held
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in path.parent.glob(".mcp.json*")) == [".mcp.json"]


UGLY: list[tuple[bytes, str]] = [
    (b"{", "is not JSON"),
    (b'{"mcpServers": {},}', "is not JSON"),
    (b'// mine\n{"mcpServers": {}}', "is not JSON"),
    (b"[]", "holds no JSON object"),
    (b"null", "holds no JSON object"),
    (b'{"mcpServers": []}', "mcpServers is no object"),
    (b'{"mcpServers": {}, "mcpServers": {}}', "a key stands twice"),
    (b'{"mcpServers": {"a": 1, "a": 2}}', "a key stands twice"),
    (b"\xff\xfe{}", "is not UTF-8"),
    (b"[" * 100_000, "is not JSON"),
    (b" " * (10 * 1024 * 1024 + 1), "is larger than"),
]


@pytest.mark.parametrize(("content", "said"), UGLY)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(
    here: Here, content: bytes, said: str
) -> None:
    path = here.root / ".mcp.json"
    path.write_bytes(content)
    text = here.refused()
    assert said in text
    assert "by hand" in text
    assert path.read_bytes() == content


def test_no_link_is_followed_and_no_pipe_waited_for(here: Here, tmp_path: Path) -> None:
    path = here.root / ".mcp.json"
    (tmp_path / "precious").write_text("{}")
    path.symlink_to(tmp_path / "precious")
    assert "symbolic link" in here.refused()
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    assert "symbolic link" in here.refused()
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in here.refused()
    path.unlink()
    path.mkdir()
    assert "not a regular file" in here.refused()
    assert (tmp_path / "precious").read_text() == "{}"
    assert not (tmp_path / "nothing").exists()


def test_a_folder_that_cannot_be_written_to_is_named(here: Here) -> None:
    here.ordinary = os.geteuid() == 0
    folder = here.root / ".cursor"
    folder.mkdir(mode=0o500)
    try:
        assert "cannot be written: Permission denied" in here.refused("--client", "cursor")
    finally:
        folder.chmod(0o700)


def test_printing_writes_nothing_and_shows_what_would_be(here: Here) -> None:
    done = here.run("--print")
    shown = json.loads(done.stdout)
    assert not (here.root / ".mcp.json").exists()
    assert here.install()["entry"] == shown["mcpServers"]["autopoll"]
    assert json.loads((here.root / ".mcp.json").read_text()) == shown
    command = shlex.split(here.run("--print", "--scope", "user").stdout)
    assert command[:7] == ["claude", "mcp", "add-json", "--scope", "user", "autopoll", command[6]]
    assert json.loads(command[6]) == shown["mcpServers"]["autopoll"]


def test_over_http_the_token_is_named_and_never_written(here: Here, tmp_path: Path) -> None:
    secret = "0123456789abcdef" * 4
    (tmp_path / "it's a token").write_text(f"{secret}\n")
    here.environ["AUTOPOLL_TOKEN"] = secret
    url = "http://127.0.0.1:8901/mcp"
    assert here.install("--http")["entry"] == {
        "type": "http",
        "url": url,
        "headers": {"Authorization": "Bearer ${AUTOPOLL_TOKEN}"},
    }
    assert here.install("--http", "--client", "cursor")["entry"] == {
        "url": url,
        "headers": {"Authorization": "Bearer ${env:AUTOPOLL_TOKEN}"},
    }
    for _ in range(2):
        here.install("--http", "--client", "vscode")
    held = json.loads((here.root / ".vscode" / "mcp.json").read_text())
    assert held["servers"]["autopoll"]["headers"] == {
        "Authorization": "Bearer ${input:autopoll-token}"
    }
    assert [each["id"] for each in held["inputs"]] == ["autopoll-token"]
    helper = here.install("--http", "--token-file", str(tmp_path / "it's a token"))["entry"]
    made = subprocess.run(
        ["sh", "-c", helper["headersHelper"]], capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == {"Authorization": f"Bearer {secret}"}
    for path in here.root.rglob("*.json"):
        assert secret not in path.read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--client", "claude-desktop", "--http"], "reaches no server at a URL"),
        (["--client", "cursor", "--http", "--token-file", "x"], "reads no token from a file"),
        (["--token-file", "x"], "is for --http"),
        (["--name", "../x"], "is no name of a server"),
        (["--name", ""], "is no name of a server"),
        (["--client", "emacs"], "'emacs' is not one of"),
        (["--scope", "system"], "'system' is not one of"),
    ],
)
def test_what_cannot_be_is_said(here: Here, args: list[str], said: str) -> None:
    assert said in here.refused(*args)


def test_a_gateway_on_a_socket_has_no_url(here: Here) -> None:
    here.environ["AUTOPOLL_GATEWAY__LISTEN"] = "unix:var/run/gateway.sock"
    assert "which no URL names" in here.refused("--http")


def test_a_gateway_that_listens_everywhere_is_reached_on_this_machine(here: Here) -> None:
    here.environ["AUTOPOLL_GATEWAY__LISTEN"] = "[::]:8902"
    here.environ["AUTOPOLL_GATEWAY__ALLOW_REMOTE"] = "true"
    assert here.install("--http", "--print")["entry"]["url"] == "http://[::1]:8902/mcp"
