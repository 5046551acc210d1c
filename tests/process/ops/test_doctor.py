"""Each fault that the doctor is there to name, made for real, and its mend typed."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from place import ECHO, Place, until
from postgres_server import PostgresServer

TOKEN = "sk-ant-api03-" + "a" * 90


def first(place: Place, *args: str) -> dict[str, Any]:
    """Return what the doctor names first."""
    found = place.json("doctor", *args, code=None)["first"]
    assert found is not None
    return dict(found)


def named(place: Place, name: str) -> list[dict[str, Any]]:
    """Return the findings of that name which are not good."""
    checks = place.json("doctor", code=None)["checks"]
    return [each for each in checks if each["name"] == name and not each["ok"]]


def require_same_verdict(place: Place) -> None:
    """See that the doctor and `health`, which a monitor asks, judge a home alike."""
    verdicts = {place.json(each, code=None)["verdict"] for each in ("doctor", "health")}
    assert len(verdicts) == 1, verdicts


def type_mend(place: Place, words: str) -> None:
    """Run the first command that a mend names."""
    found = re.search(r"(autopoll|chmod) [^;,]+", words)
    assert found, words
    program, *args = shlex.split(found[0])
    if program == "autopoll":
        place.run(*args)
    else:
        subprocess.run([program, *args], check=True)


@pytest.fixture
def place(new_place) -> Iterator[Place]:
    return new_place(ECHO)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    config = f'{ECHO}[shards.other]\nbackend = "echo"\n'
    with Place(tmp_path_factory.mktemp("doctor") / "home", config).running() as made:
        yield made


# --- of a home that is down


@pytest.mark.long
def test_a_home_that_is_down_is_named_as_that_and_the_mend_starts_it(place: Place) -> None:
    found = first(place)
    assert (found["name"], found["state"]) == ("supervisord", "failed")
    assert place.run("doctor", code=2).stdout.startswith("down: supervisord: is not running\n")
    require_same_verdict(place)
    type_mend(place, found["mend"])
    report = place.json("doctor")
    assert (report["verdict"], report["first"]) == ("ok", None)
    assert all(each["ok"] for each in report["checks"])
    place.run("down")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[shards.main\n", "line 1"),
        ('[shards.main]\nbackend = "echo"\ncolour = 1\n', "colour"),
        ('[shards.main]\nbackend = 7\n', "shards.main.backend"),
        ('[shards.main]\nbackend = "nothing"\n', "there is no backend 'nothing'"),
        ('[shards.main]\nbackend = "command"\noptions = {command=["no-such"]}\n', "no-such"),
        ('[shards.main]\nbackend = "extract"\ncontext = ["gone/"]\n', "gone"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_named_and_all_else_is_looked_at(
    place: Place, text: str, words: str
) -> None:
    place.home.config.write_text(text)
    report = place.json("doctor", code=None)
    bad = [each for each in report["checks"] if not each["ok"] and each["hop"] == "settings"]
    assert bad and words in bad[0]["detail"]
    assert {each["hop"] for each in report["checks"]} >= {"home", "disk", "settings", "machine"}


def test_settings_that_cannot_be_read_have_the_exit_code_of_settings(place: Place) -> None:
    place.home.config.write_text("[[[")
    place.run("doctor", code=4)


def test_a_time_out_below_the_drain_is_named(place: Place) -> None:
    conf = place.home.supervisord_conf
    conf.write_text(conf.read_text().replace("stopwaitsecs = 30", "stopwaitsecs = 2", 1))
    [found] = named(place, "stop time-out")
    assert "has 2 s to stop, and drains for" in found["detail"]


def test_what_others_can_read_is_named_and_the_mend_and_fix_take_it_away(place: Place) -> None:
    for path, mode in ((place.home.var, 0o755), (place.home.credentials, 0o644)):
        path.chmod(mode)
    found = named(place, "mode")
    assert len(found) == 2
    type_mend(place, found[0]["mend"])
    assert len(named(place, "mode")) == 1
    fixed = place.json("doctor", "--fix", code=None)["fixed"]
    assert len(fixed) == 1 and "credentials" in fixed[0]
    assert stat.S_IMODE(place.home.credentials.stat().st_mode) == 0o600
    assert named(place, "mode") == []
    assert place.json("doctor", "--fix", code=None)["fixed"] == []


def test_fix_follows_no_link(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "of-another"
    target.write_text("x")
    target.chmod(0o644)
    place.home.credentials.unlink()
    place.home.credentials.symlink_to(target)
    place.json("doctor", "--fix", code=None)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_is_named(place: Place) -> None:
    os.chown(place.home.var / "bridge.db", 65534, 65534)
    found = first(place)
    assert found["name"] == "owner" and "belongs to user" in found["detail"]
    assert "chown" in found["mend"]
    for path in place.home.var.glob("bridge.db*"):
        os.chown(path, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a home to another user")
def test_of_a_home_of_another_user_it_is_said_that_it_may_not_be_looked_into(
    place: Place,
) -> None:
    for path in (place.root, *place.root.rglob("*")):
        os.lchown(path, 65534, 65534)
    try:
        report = place.json("doctor", code=4)
        assert report["first"]["name"] == "trust"
        assert [each["state"] for each in report["checks"]] == ["failed", "unknown"]
    finally:
        for path in (place.root, *place.root.rglob("*")):
            os.lchown(path, 0, 0)


def test_a_damaged_database_is_named_with_the_backup_that_mends_it(place: Place) -> None:
    place.home.backups.mkdir(parents=True, exist_ok=True)
    backup = place.home.backups / "good.db"
    place.run("backup", str(backup))
    with (place.home.var / "bridge.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    found = first(place)
    assert "damaged" in found["detail"] or "malformed" in found["detail"]
    assert f"autopoll restore {backup}" in found["mend"]
    place.run("restore", str(backup))
    assert first(place)["name"] == "supervisord"


@pytest.mark.parametrize(
    ("version", "words", "mend"),
    [(99, "newer schema version 99", "Upgrade"), (3, "older schema version 3", "autopoll up")],
)
def test_a_database_of_another_version_is_named(
    place: Place, version: int, words: str, mend: str
) -> None:
    with closing(apsw.Connection(str(place.home.var / "bridge.db"))) as db:
        db.pragma("user_version", version)
    found = first(place)
    assert words in found["detail"] and mend in found["mend"]


def test_a_log_that_a_reader_keeps_large_is_named_with_the_reader(place: Place) -> None:
    file = place.home.var / "bridge.db"
    script = (
        "import sys, time, sqlite3\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN'); db.execute('SELECT count(*) FROM messages').fetchall()\n"
        "print('reading', flush=True)\ntime.sleep(600)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout is not None and reader.stdout.readline() == "reading\n"
        with closing(apsw.Connection(str(file))) as db:
            db.pragma("journal_mode", "wal")
            for _ in range(8):
                db.execute(
                    "INSERT INTO messages(conversation_id,message,read) VALUES('x',zeroblob(?),1)",
                    (9_000_000,),
                )
        [found] = named(place, "log")
        assert f"process {reader.pid}" in found["detail"]
        assert found["mend"].endswith(f"kill {reader.pid}")
    finally:
        reader.kill()
        reader.communicate()


def test_a_route_to_a_shard_that_nobody_has_is_named_and_the_mend_ends_it(place: Place) -> None:
    with closing(place.bridge()) as bridge:
        made = bridge.conversations.create("me", "it").conversation
        bridge.conversations.serve(made, "b", "gone")
    [found] = named(place, "route")
    assert made in found["detail"] and "gone" in found["detail"]
    type_mend(place, found["mend"].partition("end it: ")[2])
    assert named(place, "route") == []


def test_a_clock_that_was_set_back_is_named(place: Place) -> None:
    later = int(time.time() * 1000) + 3_600_000
    sample = {"at": later, "free": {str(place.home.var): 10**9}, "bridge": 1}
    place.home.disk_samples.write_text(json.dumps([sample]))
    [found] = named(place, "clock")
    assert "3600 s later than now" in found["detail"] or "3599 s" in found["detail"]


def test_what_is_no_home_is_an_error_as_for_every_command(tmp_path: Path, place: Place) -> None:
    done = place.run("doctor", "--home", str(tmp_path / "nowhere"), code=2)
    assert "nowhere" in done.stderr


# --- a bridge on a server


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[PostgresServer]:
    with PostgresServer(tcp=True) as server:
        yield server


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://nobody@no-such-host.invalid/x", "name of the server"),
        ("postgresql://nobody@127.0.0.1:1/x", "connection to the server"),
        ("postgresql://postgres@{tcp}/postgres?sslmode=require", "TLS"),
        ("postgresql://postgres@{tcp}/no_such_database", "database of the server"),
        ("postgresql://no_such_role@{tcp}/postgres", "login"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_be_had_is_named_by_the_reason(
    place: Place, tcp_server: PostgresServer, url: str, name: str
) -> None:
    text = url.format(tcp=f"127.0.0.1:{tcp_server.port}")
    place.home.config.write_text(f'[bridge]\nurl = "{text}"\n{ECHO}')
    report = place.json("doctor", code=None)
    [found] = [each for each in report["checks"] if each["hop"] == "bridge"]
    assert (found["name"], found["state"]) == (name, "failed"), found
    assert found["mend"]


# --- the gateway


@contextmanager
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_port_that_another_program_has_is_named(new_place) -> None:
    with listener() as port:
        place = new_place(f'{ECHO}[gateway]\nenabled = true\nlisten = "127.0.0.1:{port}"\n')
        [found] = named(place, "gateway")
        assert f"at 127.0.0.1:{port}: address already in use" in found["detail"]


def test_a_gateway_at_all_addresses_without_names_is_named(new_place) -> None:
    config = '[gateway]\nenabled = true\nlisten = "0.0.0.0:0"\nallow_remote = true\n'
    place = new_place(ECHO + config.replace(":0", ":18765"))
    details = [each["detail"] for each in named(place, "gateway")]
    assert any("all addresses" in each for each in details)
    assert any("allowed_hosts" in each for each in details)


# --- of a home that runs


def test_of_a_home_that_runs_every_hop_is_good(up: Place) -> None:
    report = up.json("doctor")
    assert report["verdict"] == "ok"
    require_same_verdict(up)
    hops = list(dict.fromkeys(each["hop"] for each in report["checks"]))
    assert hops == [
        "home", "disk", "settings", "bridge", "supervisord", "processes", "shards", "machine",
    ]  # fmt: skip
    [locks] = [each for each in report["checks"] if each["name"] == "locks"]
    assert f"poller by process {up.pid('poller')}" in locks["detail"]


def test_a_poller_that_was_stopped_by_hand_is_named_and_the_mend_starts_it(up: Place) -> None:
    subprocess.run(
        ["supervisorctl", "-c", str(up.home.supervisord_conf), "stop", "poller"],
        env=up.environ, check=True, capture_output=True,
    )  # fmt: skip
    until(lambda: up.beat("poller") is None)
    found = first(up)
    assert (found["name"], found["state"]) == ("poller", "failed")
    require_same_verdict(up)
    type_mend(up, found["mend"])
    until(lambda: up.json("doctor", code=None)["verdict"] == "ok")


def test_a_worker_that_is_stopped_by_a_signal_is_named(up: Place) -> None:
    watchdog = up.pid("watchdog")
    os.kill(watchdog, signal.SIGSTOP)  # or it would let it go on at once
    worker = up.pid("worker-other-1")
    os.kill(worker, signal.SIGSTOP)
    try:
        [found] = until(lambda: named(up, "worker-other-1"))
        assert found["mend"] == f"Let it go on: kill -CONT {worker}"
    finally:
        os.kill(worker, signal.SIGCONT)
        os.kill(watchdog, signal.SIGCONT)
    until(lambda: up.json("doctor", code=None)["verdict"] == "ok")


def test_a_pause_is_named_and_what_waits_for_it_and_the_mend_ends_it(up: Place) -> None:
    up.run("pause", "other", "--reason", "a trial")
    until(lambda: named(up, "shard other"))
    [found] = named(up, "shard other")
    assert "a trial" in found["detail"]
    require_same_verdict(up)
    type_mend(up, found["mend"])
    until(lambda: named(up, "shard other") == [])


def test_the_stacks_of_a_process_are_shown_and_it_goes_on(up: Place) -> None:
    before = up.pid("worker")
    shown = up.run("doctor", "--stacks", "worker").stdout
    assert "worker" in shown and "Thread" in shown
    assert up.json("doctor", "--stacks", "poller")["process"] == "poller"
    assert up.pid("worker") == before
    missing = up.run("doctor", "--stacks", "nobody", code=2)
    assert "There are: poller" in missing.stderr
    up.run("doctor", "--stacks", "worker", "--fix", code=4)


def test_a_py_spy_that_fails_or_hangs_is_done_without(
    up: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "py-spy"
    monkeypatch.setitem(up.environ, "PATH", f"{tmp_path}:{up.environ['PATH']}")
    for script in ("echo spied", "exit 1"):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        shown = up.run("doctor", "--stacks", "worker").stdout
        assert ("spied" in shown) == (script == "echo spied") and shown


def test_a_process_that_cannot_say_where_it_is_is_named_as_that(up: Place) -> None:
    watchdog, worker = up.pid("watchdog"), up.pid("worker-other-1")
    before = (up.home.log / "worker-other-1.stacks").read_text()
    os.kill(watchdog, signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    try:
        done = up.run("doctor", "--stacks", "worker-other-1", code=1)
        assert "does not show its stacks" in done.stderr
    finally:
        os.kill(worker, signal.SIGCONT)
        os.kill(watchdog, signal.SIGCONT)
    assert up.pid("worker-other-1") == worker
    # Nor was it asked, to answer when nobody reads it.
    assert (up.home.log / "worker-other-1.stacks").read_text() == before


def test_a_bundle_is_private_and_holds_no_secret_and_no_question(up: Place, tmp_path: Path) -> None:
    question = "what is in the cellar?"
    up.ask(question)
    with up.home.config.open("a") as file:
        file.write(f"# key {TOKEN}\n")
    (up.home.log / "worker.log").open("a").write(f"key {TOKEN}\n")
    target = tmp_path / "report.tar.gz"
    up.run("doctor", "--bundle", str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as archive:
        held = {
            each.name.removeprefix("autopoll-report/"): archive.extractfile(each).read().decode()  # type: ignore[union-attr]
            for each in archive.getmembers()
        }
    assert {"doctor.json", "versions.txt", "status.json", "bridge.json", "settings/autopoll.toml",
            "logs/worker.log", "incidents.json", "environment.txt"} <= held.keys()  # fmt: skip
    whole = "\n".join(held.values())
    credentials = json.loads(up.home.credentials.read_text())
    for secret in (TOKEN, question, *re.findall(r"[0-9a-f]{64}", json.dumps(credentials))):
        assert secret not in whole
    assert os.environ["PATH"] not in held["environment.txt"]
    again = up.run("doctor", "--bundle", str(target), code=4)
    assert "is there already" in again.stderr


def test_supervisord_that_hangs_is_named_in_time_with_its_own_exit_code(up: Place) -> None:
    supervisord = int(next(
        each["detail"].split()[-1] for each in up.json("doctor")["checks"]
        if each["name"] == "supervisord"
    ))  # fmt: skip
    os.kill(supervisord, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        done = up.run("doctor", code=3)
        assert time.monotonic() - begun < 30
        assert done.stdout.startswith("down: supervisord: is hung")
    finally:
        os.kill(supervisord, signal.SIGCONT)
    until(lambda: up.json("doctor", code=None)["verdict"] == "ok")


@pytest.mark.long
def test_what_has_outlived_supervisord_is_named_and_the_next_start_ends_it(place: Place) -> None:
    mark = {"AUTOPOLL_SUPERVISED": str(place.home.supervisord_conf.parent)}
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, **mark})
    try:
        [found] = named(place, "orphans")
        assert str(left.pid) in found["detail"]
        type_mend(place, found["mend"])
        assert left.wait(60) is not None
    finally:
        left.kill()
        left.wait()
        place.run("down")
