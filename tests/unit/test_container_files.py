"""The container and compose files say what a home needs, and what commands there are."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from autopoll.cli import COMMANDS
from autopoll.home.config import STOP_WAIT_S

FOLDER = Path(__file__).parents[2] / "container"
IMAGE = [
    (name, rest)
    for name, _, rest in (
        line.partition(" ")
        for line in (FOLDER / "Containerfile").read_text().splitlines()
        if line and not line.startswith("#")
    )
]
COMPOSE = yaml.safe_load((FOLDER / "compose.yml").read_text())
HOMES = [service for service in COMPOSE["services"].values() if service["image"] == "autopoll"]


def test_the_image_runs_a_home_under_tini_as_an_ordinary_user() -> None:
    last = dict(IMAGE)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last["USER"])
    assert json.loads(last["ENTRYPOINT"])[0] == "tini"
    _, _, line = json.loads(last["CMD"])
    assert "exec autopoll up --foreground" in line
    home = f"AUTOPOLL_HOME={last['VOLUME']}"
    assert home in shlex.split(last["ENV"])
    assert last["HEALTHCHECK"].endswith('CMD ["sh", "-c", "autopoll health || [ $? -eq 1 ]"]')


def test_every_command_in_the_files_exists() -> None:
    known = {name for names in COMMANDS.values() for name in names}
    text = " ".join(rest for name, rest in IMAGE if name in ("CMD", "HEALTHCHECK"))
    used = set(re.findall(r'\bautopoll(?:", "| )(\w+)', text))
    assert used == {"health", "init", "up"} <= known


@pytest.mark.parametrize("service", HOMES, ids=lambda service: service["hostname"])
def test_each_home_is_given_time_to_finish_and_a_volume_of_its_own(service) -> None:
    assert int(service["stop_grace_period"].removesuffix("s")) > 3 * STOP_WAIT_S
    [volume] = service["volumes"]
    name, _, target = volume.partition(":")
    assert name in COMPOSE["volumes"] and target == dict(IMAGE)["VOLUME"]
    assert service["read_only"] and service["tmpfs"] == ["/tmp"]
    assert "PASSWORD" not in service["environment"]
    assert service["environment"]["AUTOPOLL_BRIDGE__PASSWORD_FILE"] == "/run/secrets/bridge"


def test_two_homes_share_no_volume_and_no_secret_stands_in_the_file() -> None:
    assert len({service["volumes"][0] for service in HOMES}) == len(HOMES) == 2
    assert all("file" in secret for secret in COMPOSE["secrets"].values())
