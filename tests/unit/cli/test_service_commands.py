"""`autopoll service`: the unit is written, and only what we have written is taken away."""

import json
import os
from pathlib import Path

import pytest

from autopoll.cli import main
from autopoll.ops import systemd_service as service

# Stands for systemctl and loginctl: notes what it is called with, and fails when told to.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case " $* " in *" $FAILING "*) echo 'no bus' >&2; exit 1;; esac
case "$*" in *--property*) printf 'ActiveState=active\\nUnitFileState=enabled\\n';; esac
case "$1" in enable-linger) touch "$LINGERING/$2";; disable-linger) rm "$LINGERING/$2";; esac
"""


class Machine:
    """A home, and a systemd that only notes what it is asked for."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.unit = folder / "settings" / "systemd" / "user" / "autopoll.service"

    def run(self, *args: str, code: int = 0) -> None:
        assert main(["service", *args, "--home", str(self.home)]) == code

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.replace("systemctl --user ", "") for line in lines if " show " not in line]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    programs, lingering, booted = tmp_path / "bin", tmp_path / "linger", tmp_path / "booted"
    for folder in (programs, lingering, booted):
        folder.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(FAKE)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LINGERING", str(lingering))
    monkeypatch.setenv("FAILING", "nothing")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr(service, "BOOTED", booted)
    monkeypatch.setattr(service, "LINGERING", lingering)
    monkeypatch.setattr(service, "_SYSTEM_UNITS", tmp_path / "units")
    home = tmp_path / "my agents"
    assert main(["init", str(home)]) == 0
    return Machine(tmp_path, home)


def test_a_service_is_printed_written_enabled_started_and_taken_away(machine, capsys) -> None:
    machine.run("status", "--user", code=2)
    capsys.readouterr()
    machine.run("install", "--user", "--dry-run")
    printed = capsys.readouterr().out
    assert not machine.unit.exists() and machine.calls() == []
    machine.run("install", "--user")
    assert capsys.readouterr().out == printed == machine.unit.read_text()
    assert machine.calls() == [
        "daemon-reload", "enable autopoll.service", "start autopoll.service",
    ]  # fmt: skip
    machine.run("status", "--user", "--json")
    assert json.loads(capsys.readouterr().out)["active"] == "active"
    machine.run("remove", "--user")
    assert machine.calls() == ["disable --now autopoll.service", "daemon-reload"]
    assert not machine.unit.exists()
    machine.run("remove", "--user", code=2)


def test_a_unit_that_is_not_ours_is_left_alone(machine, capsys) -> None:
    machine.unit.parent.mkdir(parents=True)
    machine.unit.write_text("[Service]\nExecStart=/bin/true\n")
    for words in (["install"], ["remove"], ["status"]):
        machine.run(*words, "--user", code=1)
        assert "was not written by autopoll" in capsys.readouterr().err
    machine.unit.unlink()
    machine.unit.symlink_to("/dev/null")  # as `systemctl mask` leaves it
    machine.run("install", "--user", code=1)
    assert machine.unit.is_symlink() and machine.calls() == []


def test_each_home_has_a_service_of_its_own_name(machine, capsys) -> None:
    machine.run("install", "--user")
    other = Machine(machine.folder, machine.folder / "other")
    assert main(["init", str(other.home)]) == 0
    for words in (["install"], ["remove"]):
        other.run(*words, "--user", code=1)
        assert f"is the service of the home {machine.home}" in capsys.readouterr().err
    other.run("install", "--user", "--name", "other")
    assert machine.unit.with_name("other.service").exists()


def test_lingering_is_disabled_again_only_where_the_service_has_enabled_it(machine) -> None:
    machine.run("install", "--user", "--linger")
    assert service.lingers()
    machine.run("remove", "--user")
    assert not service.lingers()
    service.linger("enable-linger")
    machine.run("install", "--user", "--linger")
    machine.run("remove", "--user")
    assert service.lingers()


@pytest.mark.parametrize("failing", ["daemon-reload", "enable"])
def test_what_systemd_refuses_leaves_nothing_behind(machine, monkeypatch, capsys, failing) -> None:
    monkeypatch.setenv("FAILING", failing)
    machine.run("install", "--user", "--linger", code=1)
    assert "no bus" in capsys.readouterr().err
    assert not machine.unit.exists()
    assert not service.lingers()


def test_without_systemd_the_unit_is_printed_and_nothing_written(machine, capsys) -> None:
    service.BOOTED.rmdir()
    machine.run("install", "--user", code=2)
    shown = capsys.readouterr()
    assert "ExecStart=" in shown.out
    assert "systemd does not run here" in shown.err
    assert not machine.unit.exists() and machine.calls() == []


def test_a_service_of_the_machine_runs_as_the_owner_of_the_home(machine, capsys) -> None:
    if os.geteuid() != 0:
        machine.run("install", "--system", "--dry-run")
        return
    for path in (machine.home, *machine.home.rglob("*")):
        os.chown(path, 65534, 65534)
    machine.run("install", "--system")
    assert "User=nobody\n" in capsys.readouterr().out
    assert (machine.folder / "units" / "autopoll.service").stat().st_uid == 0


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "x" * 200, "\x1b[31m", "a\n", "-"])
def test_a_name_that_is_none_of_a_unit_is_refused(machine, name: str, capsys) -> None:
    machine.run("install", "--user", f"--name={name}", code=4)
    assert "Traceback" not in capsys.readouterr().err
    assert machine.calls() == []
