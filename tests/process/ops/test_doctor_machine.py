"""Faults of disks, shards and the machine around a home, made for real and named."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from place import ECHO, Place, until

from autopoll.clock import wall_ms
from autopoll.process import shard_pause
from autopoll.request import Failure

pytestmark = pytest.mark.long

HIDDEN = """\
from importlib.machinery import PathFinder
found = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    hidden = name.partition(".")[0] in ("fastapi", "uvicorn")
    return None if hidden else found(name, path, target)
PathFinder.find_spec = find_spec
"""
NEEDS_MOUNTS = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode,
    reason="only root may mount, and not in every container",
)


def findings(place: Place, *command: str) -> list[dict[str, Any]]:
    """Return what is not good, looked at from within another command, as one that sets limits."""
    line = [*command, *place.command, "doctor", "--json"]
    done = subprocess.run(line, cwd=place.root, env=place.environ, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return [each for each in json.loads(done.stdout)["checks"] if not each["ok"]]


def named(place: Place, name: str, *command: str) -> list[dict[str, Any]]:
    return [each for each in findings(place, *command) if each["name"] == name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home that is down."""
    made = Place(tmp_path_factory.mktemp("machine") / "home", ECHO)
    yield made
    made.close()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A home that runs; of one shard not all can be read, and another can crash."""
    folder = tmp_path_factory.mktemp("machine_up")
    (folder / "home" / "notes").mkdir(parents=True)
    (folder / "home" / "notes" / "old.md").write_bytes("Über alles.\n".encode("latin-1") * 20)
    (folder / "home" / "notes" / "dump.md").write_bytes(bytes(range(256)) * 20)
    crash = folder / "home" / "crash.sh"
    crash.write_text(
        "#!/bin/sh\n[ -e crash-now ] && exit 3\necho '{\"ready\":true}'\nexec cat >/dev/null\n"
    )
    crash.chmod(0o755)
    config = f"""{ECHO}
[shards.files]
backend = "extract"
context = ["notes/"]
[shards.broken]
backend = "command"
[shards.broken.options]
command = ["{crash}"]
ready = true
"""
    made = Place(folder / "home", config)
    try:
        made.run("up")
        yield made
    finally:
        made.close()


def mounted(script: str) -> list[str]:
    """Return what runs a command after the mounts of a script, which nobody else sees."""
    return ["unshare", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh"]


@NEEDS_MOUNTS
def test_a_disk_without_inodes_or_room_is_named(place: Place) -> None:
    log = shlex.quote(str(place.home.log))
    few = mounted(f"mount -t tmpfs -o nr_inodes=50,size=200M,mode=700 none {log}")
    [found] = named(place, "disk", *few)
    assert "inodes left" in found["detail"] and "log" in found["detail"]
    small = mounted(f"mount -t tmpfs -o size=1M,mode=700 none {log}")
    [found] = named(place, "disk", *small)
    assert found["state"] == "failed" and "too little" in found["detail"]


@NEEDS_MOUNTS
def test_a_database_that_is_mounted_by_itself_is_named(place: Place) -> None:
    file = shlex.quote(str(place.home.var / "bridge.db"))
    [found] = named(place, "disk of the bridge", *mounted(f"mount --bind {file} {file}"))
    assert "mounted by itself" in found["detail"] and "folder" in found["mend"]


def test_too_few_open_files_are_named(place: Place) -> None:
    [found] = named(place, "limits", "prlimit", "--nofile=200:200")
    assert "may have 200 open files" in found["detail"]


def test_too_few_processes_are_named(place: Place) -> None:
    [found] = named(place, "limits", "prlimit", "--nproc=100:100")
    assert "may have 100 processes and threads" in found["detail"]


@NEEDS_MOUNTS
def test_too_few_watches_of_files_are_named(place: Place) -> None:
    # Of a user namespace: what it allows is no concern of the machine's.
    few = "echo 3 > /proc/sys/user/max_inotify_instances"
    [found] = named(
        place, "limits", "unshare", "--map-root-user", "sh", "-ec", f'{few}; "$@"', "sh"
    )
    assert "user.max_inotify_instances is 3" in found["detail"]


def test_a_program_that_only_the_shell_finds_and_not_the_service_is_named(
    new_place, tmp_path: Path
) -> None:
    place = new_place(ECHO)
    program = tmp_path / "answerer"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)
    with place.running():
        with place.home.config.open("a") as file:
            file.write('[shards.more]\nbackend = "command"\noptions = {command = ["answerer"]}\n')
        place.environ["PATH"] = f"{place.environ['PATH']}:{tmp_path}"
        [found] = named(place, "program")
        assert "answerer of shard more is not in the PATH of the service" in found["detail"]
        place.run("restart")  # as the mend says, from where it is found
        assert named(place, "program") == []


def test_a_service_that_ends_with_the_login_is_named(place: Place, tmp_path: Path) -> None:
    units = tmp_path / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "autopoll.service").write_text(
        f"[Service]\nExecStart=autopoll up --foreground --home {place.home.root}\n"
    )
    [found] = named(place, "service", "env", f"XDG_CONFIG_HOME={tmp_path}")
    assert "loginctl enable-linger" in found["mend"]


def test_an_extra_that_vanished_is_named_with_the_command_that_brings_it_back(
    new_place, tmp_path: Path
) -> None:
    place = new_place(f"{ECHO}[gateway]\nenabled = true\n")
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    place.environ["PYTHONPATH"] = str(tmp_path)
    [found] = named(place, "gateway")
    assert "fastapi, uvicorn" in found["detail"]
    assert "autopoll[" in found["mend"] and "gateway" in found["mend"]


def test_what_waits_while_nobody_answers_is_named(new_place) -> None:
    place = new_place(ECHO)
    place.run("ask", "why?", "--no-wait")
    with closing(apsw.Connection(str(place.home.var / "bridge.db"))) as db:
        db.execute("UPDATE messages SET timestamp='2026-01-01T00:00:00.000000'")
    [found] = named(place, "backlog main")
    assert "1 sent" in found["detail"] and found["state"] == "failed"


def test_another_home_that_answers_for_the_same_file_is_named(up: Place, new_place) -> None:
    url = f"sqlite:///{up.home.var / 'bridge.db'}"
    place = new_place(f'{ECHO}[bridge]\nurl = "{url}"\n', "second")
    [found] = named(place, "two homes")
    assert str(up.pid("poller")) in found["detail"]


def test_a_context_file_that_is_guessed_or_passed_over_is_named(up: Place) -> None:
    [found] = until(lambda: named(up, "context files"))
    assert "old.md" in found["detail"] and "dump.md" in found["detail"]


def test_a_program_that_ends_whenever_it_is_started_is_named_with_why(up: Place) -> None:
    (up.root / "crash-now").touch()
    up.kill("worker-broken-1")

    def given_up() -> list[dict[str, Any]]:
        found = named(up, "worker-broken-1")
        # It is started again some times before, and ends without a word.
        why = ("given it up", "crash.sh")
        found = [each for each in found if any(words in each["detail"] for words in why)]
        return [each for each in found if "logs worker-broken-1" in each["mend"]]

    until(given_up, 120)
    assert [each["state"] for each in named(up, "shard broken")] == ["failed"]


@pytest.mark.parametrize(
    ("cause", "mend"), [("credentials", "Renew the key"), ("quota", "It ends by itself")]
)
def test_a_pause_by_the_service_is_named_with_its_end(up: Place, cause: str, mend: str) -> None:
    pause = shard_pause.begin(
        up.home,
        "worker",
        Failure(kind="unavailable", message="401 of the service", cause=cause),  # type: ignore[arg-type]
        None,
    )
    up.home.pauses.mkdir(exist_ok=True)
    (up.home.pauses / "main").write_bytes(msgspec.json.encode(pause))
    try:
        [found] = named(up, "shard main")
        assert found["detail"].startswith(f"paused: {cause} until") and mend in found["mend"]
        assert pause.until > wall_ms()
    finally:
        (up.home.pauses / "main").unlink(missing_ok=True)


def test_a_zombie_of_a_process_of_ours_is_named(up: Place) -> None:
    mark = {"AUTOPOLL_SUPERVISED": str(up.home.supervisord_conf.parent)}
    script = (
        "import os, time\nif os.fork() == 0: os._exit(0)\nprint('x', flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, **mark}, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None and parent.stdout.readline()
        [found] = until(lambda: named(up, "zombies"))
        assert f"of {parent.pid}" in found["detail"]
    finally:
        parent.kill()
        parent.communicate()


def test_a_process_of_another_version_is_named_with_what_renews_it(up: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import autopoll, sys; autopoll.__version__ = '99.0'; "
         "from autopoll.__main__ import main; sys.argv[1:] = ['doctor', '--json']; main()"],
        cwd=up.root, env=up.environ, capture_output=True, text=True,
    )  # fmt: skip
    names = [each["name"] for each in json.loads(done.stdout)["checks"] if not each["ok"]]
    assert "version of poller" in names and "version of watchdog" in names
