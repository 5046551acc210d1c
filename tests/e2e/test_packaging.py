"""The wheel and the sdist: what is in them, and that what is installed from them works."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

from autopoll.errors import Exit

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "var", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)
ORDINARY = 65534  # nobody's uid and gid on every Linux
ME = os.geteuid()


@pytest.fixture(scope="module")
def shop() -> Iterator[Path]:
    """A folder that every user may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="autopoll-packaging-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def source(shop: Path) -> Path:
    """A checkout that was used as a home, with a generated program file in conf/shards.d."""
    copy = shop / "source"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=NOT_SOURCE)
    (copy / "conf" / "shards.d").mkdir(exist_ok=True)
    (copy / "conf" / "shards.d" / "main.conf").write_text("[program:worker-main-2]\n")
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path, shop: Path) -> Path:
    return build(source, "--sdist", shop / "sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, shop: Path) -> Path:
    """The wheel as an installer makes it: out of the sdist."""
    (shop / "unpacked").mkdir()
    run(["tar", "-xf", str(sdist), "-C", str(shop / "unpacked")])
    [unpacked] = (shop / "unpacked").iterdir()
    return build(unpacked, "--wheel", shop / "wheel")


@pytest.fixture(scope="module")
def autopoll(shop: Path, wheel: Path) -> Path:
    """The command, in a fresh environment that every user may run."""
    environment = shop / "environment"
    run([common_python(shop), "-m", "venv", "--without-pip", str(environment)])
    python = str(environment / "bin" / "python")
    [site_packages] = environment.glob("lib/python3*/site-packages")
    for needed in runtime_needs():
        copy_distribution(needed, site_packages)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
    shown = run([python, "-c", "import autopoll; print(autopoll.__file__)"], cwd=shop)
    assert Path(shown.strip()).is_relative_to(environment)
    return environment / "bin" / "autopoll"


def build(folder: Path, kind: str, into: Path) -> Path:
    run([sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(into)], cwd=folder)
    [made] = into.iterdir()
    return made


def run(command: list[str], **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def common_python(shop: Path) -> str:
    """Return this interpreter, or a copy of it when it lies where other users cannot go."""
    base = os.path.realpath(sys._base_executable)
    if ME != 0:
        return base
    try:
        found = subprocess.run([base, "-c", ""], user=ORDINARY, group=ORDINARY, extra_groups=[])
    except PermissionError:
        found = None
    if found and found.returncode == 0:
        return base
    copy = shop / "python"
    library = Path(sysconfig.get_path("stdlib"))
    leave = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib")
    shutil.copytree(library, copy / "lib" / library.name, ignore=leave)
    (copy / "bin").mkdir()
    return shutil.copy(base, copy / "bin" / Path(base).name)


def runtime_needs() -> list[Distribution]:
    """Return what autopoll needs to run, out of the environment that runs the tests."""
    found: dict[str, Distribution] = {}
    ahead = [distribution("autopoll")]
    while ahead:
        for line in ahead.pop().requires or ():
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and requirement.name not in found:
                found[requirement.name] = distribution(requirement.name)
                ahead.append(found[requirement.name])
    return list(found.values())


def copy_distribution(needed: Distribution, site_packages: Path) -> None:
    for file in needed.files or ():
        if ".." not in file.parts:
            target = site_packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(needed.locate_file(file), target)  # as old, or its .pyc is void


def names_in(archive: Path) -> set[str]:
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def test_the_wheel_holds_every_module_the_process_tree_and_nothing_else(wheel) -> None:
    names = {name for name in names_in(wheel) if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(ROOT))
        for package in ("autopoll", "fifo")
        for path in (ROOT / package).rglob("*.py")
    }
    page = ROOT / "autopoll" / "gateway" / "page"
    files = [path for name in ("static", "templates") for path in (page / name).iterdir()]
    data = {"autopoll/py.typed", "fifo/py.typed", "autopoll/conf/supervisord.conf"}
    data |= {str(path.relative_to(ROOT)) for path in files}
    [manual] = [name for name in names if name.endswith(".data/data/share/man/man1/autopoll.1")]
    assert names == modules | data | {manual}
    packaged = zipfile.ZipFile(wheel).read("autopoll/conf/supervisord.conf")
    assert packaged == (ROOT / "conf" / "supervisord.conf").read_bytes()


def test_the_wheel_made_of_the_sdist_is_the_one_made_of_the_checkout(source, wheel, shop) -> None:
    direct = build(source, "--wheel", shop / "direct")
    assert names_in(direct) == names_in(wheel)


def test_the_sdist_holds_what_the_readme_commands_need(sdist) -> None:
    names = names_in(sdist)
    needed = {"Makefile", "README.md", "LICENSE", "setup.cfg", "pyproject.toml", ".ci/run"}
    needed |= {"container/Containerfile", "container/compose.yml", ".dockerignore"}
    needed |= {str(each.relative_to(ROOT)) for each in (ROOT / "monitoring").iterdir()}
    needed |= {"demo/__main__.py", "tests/e2e/test_packaging.py", "docs/architecture.md"}
    assert needed <= names
    assert not [name for name in names if "shards.d" in name]


def like_pip() -> dict[str, str]:
    """Return the variables by which uv gets packages where pip is set to get them here."""
    listed = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    pairs = [line.partition("=") for line in listed]
    said = {key.rpartition(".")[2]: value.strip("'\"") for key, _, value in pairs}
    found = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if "index-url" in said:
        found["UV_DEFAULT_INDEX"] = said["index-url"]
    folders = [each for each in said.get("find-links", "").split() if Path(each).is_dir()]
    indexes = [
        each for each in said.get("extra-index-url", "").split()
        if not each.startswith("file:") or Path(each.removeprefix("file://")).is_dir()
    ]  # fmt: skip
    if "constraint" in said:
        found["UV_CONSTRAINT"] = said["constraint"]
    if folders:
        found["UV_FIND_LINKS"] = ",".join(folders)
    if indexes:
        found["UV_INDEX"] = " ".join(indexes)
    return found


@pytest.mark.parametrize("tool", ["uv tool", "pipx"])
def test_an_extra_is_added_to_what_uv_or_pipx_installed_by_the_command_of_the_error(
    wheel, tmp_path, tool, short_folder
) -> None:
    made, home = tmp_path / "tools", str(tmp_path / "home")
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(short_folder),
        "PATH": f"{made / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "UV_TOOL_DIR": str(made),
        "UV_TOOL_BIN_DIR": str(made / "bin"),
        "PIPX_HOME": str(made),
        "PIPX_BIN_DIR": str(made / "bin"),
        **like_pip(),
    }
    by = [*tool.split(), "install", f"autopoll[fast] @ {wheel.as_uri()}"]
    run(by, env=environ, cwd=tmp_path)
    command = str(made / "bin" / "autopoll")
    run([command, "init", home], env=environ)
    gateway = [command, "gateway", "--home", home]
    missing = subprocess.run(gateway, env=environ, capture_output=True, text=True, timeout=60)
    assert missing.returncode == Exit.BAD_CONFIG, missing.stderr
    mend = missing.stderr.partition("Run: ")[2].splitlines()[0]
    assert mend == f"{tool} install --force 'autopoll[fast,gateway] @ {wheel.as_uri()}'"
    run(["bash", "-c", mend], env=environ, cwd=tmp_path)
    run([command, "--version"], env=environ)
    [python] = made.glob("**/bin/python")
    run([str(python), "-c", "import fastapi, isal, uvicorn"])


@pytest.mark.parametrize("user", [ME] if ME else [ME, ORDINARY])
def test_an_installed_wheel_answers_in_an_empty_folder(autopoll, shop, user) -> None:
    home = shop / f"home of {user}"
    home.mkdir()
    os.chown(home, user, user if user == ORDINARY else -1)
    other = {} if user == ME else {"user": user, "group": user, "extra_groups": []}
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}

    def type_in(*args: str) -> str:
        return run([str(autopoll), *args], cwd=home, env=environ, stdin=subprocess.DEVNULL, **other)

    assert "Usage: autopoll" in type_in("--help")
    type_in("init")
    (home / "notes.md").write_text("# The gate\n\nThe gate opens at nine in the morning.\n")
    try:
        type_in("up")
        result = json.loads(type_in("ask", "When does the gate open?", "--json"))
        owners = {process.uids().real for process in living(home)}
    finally:
        type_in("down")
    assert result["status"] == "answered"
    assert "nine" in result["answer"]
    assert result["sources"] == ["notes.md:1-3"]
    assert owners == {user}
    assert not living(home)
    assert list((home / "var" / "run").iterdir()) == []


def living(home: Path) -> list[psutil.Process]:
    """Return the processes that work in the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == home:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
