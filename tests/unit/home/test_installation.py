"""The command that adds an extra is that of the program which installed autopoll."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autopoll.home import installation
from autopoll.home.installation import Installer, extra_command, installer, library_command

Make = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make an environment as an installer leaves it, and have it taken for ours."""

    def make(receipt: str = "", by: str = "pip", origin: object = None) -> None:
        if receipt:
            (tmp_path / receipt).touch()
        for folder, text in (
            ("autopoll-1.dist-info", "Requires-Dist: celery>=5; extra == 'peers'\n"
             "Requires-Dist: fastapi>=1; extra == 'gateway'\n"
             "Requires-Dist: psycopg[binary]>=3; extra == 'postgres'\n"),
            ("psycopg-3.dist-info", ""),
            ("celery-6.dist-info", ""),
        ):  # fmt: skip
            (tmp_path / folder).mkdir()
            name, _, version = folder.removesuffix(".dist-info").partition("-")
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{text}"
            (tmp_path / folder / "METADATA").write_text(metadata)
        own = tmp_path / "autopoll-1.dist-info"
        (own / "INSTALLER").write_text(f"{by}\n")
        if origin:
            (own / "direct_url.json").write_text(json.dumps(origin))
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.setattr(installation.installer, "__defaults__", (str(tmp_path),))
        monkeypatch.setattr(sys, "executable", "/opt/my tools/bin/python")

    return make


@pytest.mark.parametrize(
    ("receipt", "by", "expected", "extra", "library"),
    [
        ("", "pip", Installer.PIP, "'/opt/my tools/bin/python' -m pip install 'autopoll[gateway]'",
         "'/opt/my tools/bin/python' -m pip install socksio"),
        ("", "uv", Installer.UV,
         "uv pip install --python '/opt/my tools/bin/python' 'autopoll[gateway]'",
         "uv pip install --python '/opt/my tools/bin/python' socksio"),
        ("uv-receipt.toml", "uv", Installer.UV_TOOL,
         "uv tool install --force 'autopoll[gateway,postgres]'",
         "uv pip install --python '/opt/my tools/bin/python' socksio"),
        ("pipx_metadata.json", "pip", Installer.PIPX,
         "pipx install --force 'autopoll[gateway,postgres]'", "pipx inject autopoll socksio"),
    ],
)  # fmt: skip
def test_an_extra_is_added_by_what_installed_autopoll_and_takes_no_other_away(
    installed: Make, receipt: str, by: str, expected: Installer, extra: str, library: str
) -> None:
    installed(receipt, by)
    assert installer() is expected
    assert extra_command("gateway") == extra
    assert library_command("socksio") == library


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ({"url": "file:///srv/autopoll.whl", "archive_info": {}}, "file:///srv/autopoll.whl"),
        ({"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}},
         "git+https://host/x.git@0a1b"),
    ],
)  # fmt: skip
def test_what_came_from_a_file_or_a_repository_is_taken_from_there_again(
    installed: Make, origin: object, url: str
) -> None:
    installed("uv-receipt.toml", "uv", origin)
    assert extra_command("postgres") == f"uv tool install --force 'autopoll[postgres] @ {url}'"


def test_the_command_is_one_that_a_shell_can_run_here() -> None:
    command = library_command("autopoll")
    done = subprocess.run(f"{command} --dry-run --no-deps", shell=True, capture_output=True)
    assert done.returncode == 0, (command, done.stderr)
