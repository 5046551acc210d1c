"""The unit of a home says to systemd what is meant, whatever is in the paths."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autopoll.home.config import STOP_WAIT_S
from autopoll.ops.service_unit import ServiceUnit, UnitScope, has_lingering, home_in

ODD = '/srv/a b/100%h $HOME ${x} "q" \\n'


def unit(scope: UnitScope = UnitScope.USER, home: str = ODD, lingers: bool = False) -> ServiceUnit:
    return ServiceUnit(
        home=Path(home),
        scope=scope,
        program=["/opt/my $tools%/autopoll"],
        user="ada",
        user_home="/home/ada",
        path="/opt/my $tools%:/usr/bin",
        lingers=lingers,
    )


def settings(text: str) -> dict[str, str]:
    """Return what the unit sets, by the name of the setting; no name stands twice."""
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def words(value: str) -> list[str]:
    """Read quoted words as systemd does, up to what it replaces in them."""
    return [word.replace("%%", "%") for word in shlex.split(value)]


@pytest.mark.parametrize("scope", UnitScope)
def test_odd_paths_are_read_back_as_they_are(scope: UnitScope) -> None:
    found = settings(unit(scope).text())
    program, *rest = words(found["ExecStart"])
    assert program == "/opt/my $tools%/autopoll"  # systemd replaces no variable in it
    rest = [word.replace("$$", "$") for word in rest]
    assert rest == ["up", "--foreground", "--home", ODD]
    assert "%" not in found["ExecStart"].replace("%%", "")
    assert words(found["Environment"]) == ["PATH=/opt/my $tools%:/usr/bin", "HOME=/home/ada"]
    assert "%" not in found["Description"].replace("%%", "")


@pytest.mark.parametrize(
    ("scope", "user", "target"),
    [(UnitScope.USER, None, "default.target"), (UnitScope.SYSTEM, "ada", "multi-user.target")],
)
def test_a_unit_ends_as_slowly_as_a_home_and_has_one_judge(scope, user, target) -> None:
    found = settings(unit(scope).text())
    assert (found.get("User"), found["WantedBy"]) == (user, target)
    assert (found["Type"], found["NotifyAccess"], found["KillMode"]) == ("notify", "all", "mixed")
    assert int(found["TimeoutStopSec"]) > 3 * STOP_WAIT_S  # the longest that `down` waits
    assert int(found["TimeoutStartSec"]) > int(found["TimeoutStopSec"])
    assert (found["Restart"], found["OOMPolicy"]) == ("on-failure", "continue")
    assert "WatchdogSec" not in found


def test_a_unit_says_whose_it_is_and_what_was_done_with_it() -> None:
    assert home_in(unit().text()) == Path(ODD)
    assert not has_lingering(unit().text())
    assert has_lingering(unit(lingers=True).text())
    assert home_in("[Service]\nExecStart=/bin/true\n") is None


@pytest.mark.parametrize("scope", UnitScope)
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path, scope: UnitScope) -> None:
    program = tmp_path / "a b%c" / "autopoll"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    made = ServiceUnit(
        Path(ODD), scope, [str(program)], "root", "/root", f"{program.parent}:/usr/bin"
    )
    file = tmp_path / "autopoll.service"
    file.write_text(made.text())
    if shutil.which("systemd-analyze") is None:
        return  # then only the tests above have read it
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
