"""The steps of the container file carried out, and what they make run as the compose file says."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import container_root
import psutil
import pytest
import yaml
from container_root import Container, Image
from place import until
from postgres_server import PostgresServer

FOLDER = Path(__file__).parents[2] / "container"
SERVICES = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
GRACE_S = int(SERVICES["one"]["stop_grace_period"].removesuffix("s"))
PASSWORD = "of the two homes"
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not container_root.can_be_made(), reason="it takes root, and a kernel that mounts overlays"
    ),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(FOLDER / "Containerfile", tmp_path_factory.mktemp("image"))
    image.build()
    return image


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("container") / "log"


@pytest.fixture(scope="module")
def container(image: Image, log: Path) -> Iterator[Container]:
    with image.running(log) as container:
        until(lambda: is_healthy(image, container), 120, "the health check to pass")
        yield container


def is_healthy(image: Image, container: Container) -> bool:
    return container.run(*image.health_check).returncode == 0


def rows(container: Container) -> int:
    done = container.run("autopoll", "messages", "--json", "--limit", "1000")
    assert done.returncode == 0, done.stderr
    return len(done.stdout.splitlines())


def test_process_1_is_tini_and_none_has_a_right_or_another_user(
    image: Image, container: Container
) -> None:
    everybody = [container.first, *container.first.children(recursive=True)]
    assert container.first.name() == "tini"
    assert {"poller", "watchdog", "worker"} <= {word for each in everybody for word in named(each)}
    assert {each.uids().effective for each in everybody} == {int(image.user)}
    for each in everybody:
        status = Path(f"/proc/{each.pid}/status").read_text()
        assert re.search(r"^CapEff:\t0+$", status, re.M)
        assert re.search(r"^CapBnd:\t0+$", status, re.M)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


def named(process: psutil.Process) -> set[str]:
    return {Path(word).name for word in process.cmdline()}


def test_a_home_answers_although_nothing_but_its_volume_can_be_written(
    container: Container,
) -> None:
    for place in ("/opt/autopoll/x", "/usr/src/autopoll/x", "/x", "/etc/x"):
        assert container.run("touch", place).returncode != 0
    done = container.run("autopoll", "ask", "What can you do?", "--json")
    assert json.loads(done.stdout)["status"] == "answered", done.stderr


def test_the_health_check_leaves_no_rows_and_bears_a_shard_that_is_paused_by_hand(
    image: Image, container: Container
) -> None:
    before = rows(container)
    for _ in range(3):
        assert is_healthy(image, container)
    assert rows(container) == before
    assert container.run("autopoll", "pause", "main").returncode == 0
    assert container.run("autopoll", "health").returncode == 1
    assert is_healthy(image, container), "an engine would kill what only a person has paused"
    assert container.run("autopoll", "resume", "main").returncode == 0


def test_what_a_process_inside_leaves_behind_is_reaped(container: Container) -> None:
    left = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nos.execvp('sleep', ['sleep', '0.2'])"
    assert container.run("python3", "-c", left).returncode == 0
    until(lambda: not sleepers(container), what="its end")
    until(lambda: not zombies(container), what="all zombies to be reaped")


def sleepers(container: Container) -> list[psutil.Process]:
    return [each for each in container.first.children() if each.name() == "sleep"]


def zombies(container: Container) -> list[psutil.Process]:
    everybody = container.first.children(recursive=True)
    return [each for each in everybody if each.is_running() and each.status() == "zombie"]


def test_the_log_of_the_processes_comes_to_stdout(container: Container, log: Path) -> None:
    text = log.read_text()
    for name in ("poller", "worker", "watchdog"):
        assert name in text


def test_the_stop_signal_ends_it_well_within_its_time_and_the_volume_is_taken_up_again(
    image: Image, container: Container, log: Path
) -> None:
    kept = rows(container)
    assert container.stop(GRACE_S) == 0
    with image.running(log) as again:
        until(lambda: is_healthy(image, again), 120, "the health check to pass again")
        assert rows(again) == kept
        assert again.stop(GRACE_S) == 0


def test_what_is_in_flight_is_finished_before_it_ends(image: Image, tmp_path: Path) -> None:
    settings(image, "slow", '[shards.main.options]\ndelay = "4s"\n')
    with image.running(tmp_path / "log", "slow") as container:
        until(lambda: is_healthy(image, container), 120, "the health check to pass")
        sent = container.run("autopoll", "ask", "why?", "--no-wait", "--json")
        number = str(json.loads(sent.stdout)["id"])
        until(
            lambda: json.loads(container.run("autopoll", "status", "--json").stdout)["queue"][
                "leased"
            ]
        )
        assert container.stop(GRACE_S) == 0
    with image.running(tmp_path / "log", "slow") as again:
        until(lambda: is_healthy(image, again), 120, "the health check to pass again")
        answer = json.loads(again.run("autopoll", "answer", number, "--no-wait", "--json").stdout)
        assert (answer["status"], answer["answer"], answer["attempts"]) == ("answered", "why?", 1)
        assert again.stop(GRACE_S) == 0


def queue(container: Container) -> dict[str, int]:
    return json.loads(container.run("autopoll", "status", "--json").stdout)["queue"]


def settings(image: Image, volume: str, more: str = "") -> None:
    file = image.made(volume) / "autopoll.toml"
    file.write_text(f'[shards.main]\nbackend = "echo"\n{more}')
    shutil.chown(file, int(image.user), int(image.group))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that asks the user of the compose file for a password."""
    with PostgresServer(tcp=True) as server:
        server.run_sql(f"CREATE ROLE agents LOGIN PASSWORD '{PASSWORD}'")
        server.run_sql("CREATE DATABASE agents OWNER agents")
        access = server.data / "pg_hba.conf"
        access.write_text(f"host all agents 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        server.run_sql("SELECT pg_reload_conf()")
        yield server


def test_two_homes_share_a_server_whose_password_is_a_secret(
    image: Image, server: PostgresServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secrets" / "bridge"
    secret.parent.mkdir()
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    shutil.chown(secret, int(image.user), int(image.group))
    with ExitStack() as running:
        for name in ("one", "two"):
            given = SERVICES[name]["environment"]
            url = given["AUTOPOLL_BRIDGE__URL"].replace("@db/", f"@127.0.0.1:{server.port}/")
            environ, log = {**given, "AUTOPOLL_BRIDGE__URL": url}, tmp_path / f"{name}.log"
            settings(image, name)
            home = running.enter_context(image.running(log, name, environ, secret.parent))
            until(lambda home=home: is_healthy(image, home), 120, "the health check to pass")
            said = home.run("autopoll", "ask", f"by {name}")
            assert (said.returncode, said.stdout.strip()) == (0, f"by {name}"), said.stderr
            assert PASSWORD not in log.read_text()
        assert home.run("autopoll", "hosts", "--json").stdout.count('"host"') == 2
