"""The container and compose files say what a home needs, and what commands there are."""

import re
from pathlib import Path

import pytest
import yaml
from container_root import ROOT, Image, copy_context

from autopoll.cli import COMMANDS
from autopoll.home.config import STOP_WAIT_S, load
from autopoll.home.home import Home

FOLDER = ROOT / "container"
IMAGE = Image(FOLDER / "Containerfile", Path("/nowhere"))
COMPOSE = yaml.safe_load((FOLDER / "compose.yml").read_text())
HOMES = [service for service in COMPOSE["services"].values() if service["image"] == "autopoll"]
# The fields of the Compose specification that are in use here, with what each may hold.
SERVICE = {
    "image": str, "build": dict, "restart": str, "stop_grace_period": str, "read_only": bool,
    "tmpfs": list, "cap_drop": list, "security_opt": list, "environment": dict, "secrets": list,
    "depends_on": dict, "hostname": str, "volumes": list, "healthcheck": dict,
}  # fmt: skip
CHECK = {"test": list, "interval": str, "timeout": str, "retries": int, "start_period": str}


def test_the_image_runs_a_home_under_tini_as_an_ordinary_user() -> None:
    assert all(re.fullmatch(r"[1-9]\d{3,}", each) for each in (IMAGE.user, IMAGE.group))
    assert IMAGE.command[0] == "tini"
    assert "exec autopoll up --foreground" in IMAGE.command[-1]
    assert IMAGE.environ["AUTOPOLL_HOME"] == IMAGE.volume


def test_every_command_in_the_files_exists() -> None:
    known = {name for names in COMMANDS.values() for name in names}
    text = " ".join([*IMAGE.command, *IMAGE.health_check])
    used = set(re.findall(r"\bautopoll (\w+)", text))
    assert used == {"health", "init", "up"} <= known


def test_the_image_is_made_of_no_secret_no_home_and_no_environment_of_the_host(
    tmp_path: Path,
) -> None:
    source, left_out = tmp_path / "checkout", set()
    for name in ("var/credentials", ".venv/x", ".git/x", "container/bridge.secret", "x.secret",
                 "conf/shards.d/x.conf", "shards.d/x.toml", "autopoll/__pycache__/x.pyc",
                 "build/x", "dist/x", "autopoll.egg-info/x", ".mypy_cache/x"):  # fmt: skip
        left_out.add(name)
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    kept = {"autopoll/__main__.py", "autopoll/home/var_x.py", "conf/supervisord.conf", "setup.cfg"}
    for name in kept:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    copy_context(source, tmp_path / "context")
    files = {path for path in (tmp_path / "context").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "context")) for path in files} == kept


def test_what_git_ignores_the_image_does_not_have_either() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    lines = {line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()}
    assert {name for name in ignored if not name.endswith("_cache")} <= lines


def test_each_field_of_the_compose_file_is_one_that_there_is() -> None:
    extensions = {name for name in COMPOSE if name.startswith("x-")}
    assert set(COMPOSE) - extensions == {"name", "services", "volumes", "secrets"}
    for service in COMPOSE["services"].values():
        assert all(isinstance(each, SERVICE[field]) for field, each in service.items())
        assert set(service["secrets"]) <= set(COMPOSE["secrets"])
        assert {each.partition(":")[0] for each in service["volumes"]} <= set(COMPOSE["volumes"])
        check = service.get("healthcheck", {})
        assert all(isinstance(each, CHECK[field]) for field, each in check.items())
        assert check.get("test", ["CMD"])[0] in ("CMD", "CMD-SHELL", "NONE")
        for name, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            assert "healthcheck" in COMPOSE["services"][name]
        build = service.get("build")
        assert build is None or (FOLDER / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("service", HOMES, ids=lambda service: service["hostname"])
def test_each_home_is_given_time_to_finish_and_a_volume_of_its_own(service) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > 3 * STOP_WAIT_S
    [volume] = service["volumes"]
    name, _, target = volume.partition(":")
    assert name in COMPOSE["volumes"] and target == IMAGE.volume
    assert service["read_only"] and service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("service", HOMES, ids=lambda service: service["hostname"])
def test_each_home_reads_the_same_bridge_and_the_password_out_of_the_secret(
    service, tmp_path: Path
) -> None:
    [secret] = service["secrets"]
    given = service["environment"]
    assert given["AUTOPOLL_BRIDGE__PASSWORD_FILE"] == f"/run/secrets/{secret}"
    assert "AUTOPOLL_BRIDGE__PASSWORD" not in given
    (tmp_path / "autopoll.toml").write_text('[shards.main]\nbackend = "echo"\n')
    bridge = load(Home(tmp_path), given).bridge
    server = COMPOSE["services"]["db"]["environment"]
    who, where = server["POSTGRES_USER"], server["POSTGRES_DB"]
    assert str(bridge.url) == f"postgresql://{who}@db/{where}"
    assert list(service["depends_on"]) == ["db"]


def test_two_homes_share_no_volume_and_no_secret_stands_in_the_file() -> None:
    assert len({service["volumes"][0] for service in HOMES}) == len(HOMES) == 2
    assert all("file" in secret for secret in COMPOSE["secrets"].values())
