"""A backend that comes in a package of somebody else's, found by its entry point."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOUT = ROOT / "tests" / "data" / "shout"
CONFIG = '[shards.main]\nbackend = "shout"\n[shards.main.options]\nmark = "?!"\n'


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment with all that ours has, in which the foreign package is installed too."""
    environment = tmp_path / "environment"
    made = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(made, check=True, timeout=60)
    python = environment / "bin" / "python"
    [packages] = environment.glob("lib/python3*/site-packages")
    (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    script = environment / "bin" / "autopoll"
    script.write_text(f"#!{python}\nimport sys\nfrom autopoll.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    source = tmp_path / "shout"
    shutil.copytree(SHOUT, source)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [*pip, "install", *offline, str(source)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return python


def test_a_backend_of_another_package_answers_like_one_of_ours(new_place, python) -> None:
    place = new_place(CONFIG)
    refused = place.run("up", code=4).stderr
    assert "there is no backend 'shout'" in refused

    place.command = [str(python), "-m", "autopoll"]
    place.environ["PATH"] = f"{python.parent}:{place.environ['PATH']}"
    (place.root / "autopoll.toml").write_text(CONFIG.replace("mark", "colour"))
    refused = place.run("up", code=4).stderr
    assert "shards.main.options" in refused and "Allowed keys: mark." in refused

    (place.root / "autopoll.toml").write_text(CONFIG)
    place.run("up")
    assert place.ask("is anybody there")["answer"] == "IS ANYBODY THERE?!"
