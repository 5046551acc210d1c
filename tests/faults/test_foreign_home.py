"""Homes in which somebody else has a hand, and homes of one user that another works on.

Only root can be two users at once; for everybody else the same rules are played through, without a
second user, in tests/unit/home/test_trust.py.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import commands
import psutil
import pytest
from commands import AUTOPOLL

from autopoll.home.home import Home

ME = os.geteuid()
NOBODY, NAMELESS, OTHER = 65534, 54321, 54322
ECHO = '[shards.main]\nbackend = "echo"\n'
# What is run as another user must be able to read this installation, wherever it lies.
_READS_ALL = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
# With it what root starts after it has become another user can read it as well.
ROOT = ["setpriv", *_READS_ALL, "--securebits=+no_setuid_fixup"]

Run = Callable[..., subprocess.CompletedProcess[str]]


def user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *_READS_ALL]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may look into, and nobody but us may write to."""
    with tempfile.TemporaryDirectory(prefix="ap-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def run(place: Path) -> Run:
    """Run `autopoll …` as somebody in a folder."""
    (place / "root").mkdir()

    def go(*args: str, by: list[str], cwd: Path, code: int | None = None) -> object:
        environ = commands.environment(PATH=os.environ["PATH"], HOME=str(place / "root"))
        done = commands.run([*by, *AUTOPOLL, *args], cwd=cwd, env=environ)
        assert "Traceback" not in done.stderr and "bug" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, f"{args}: {done.stdout}{done.stderr}"
        return done

    return go


# Imports once, then runs each command line in a process of its own, all at the same time.
_MANY = """
import json, os, sys, tempfile
from autopoll.home import trust
from autopoll.ops import up
from autopoll.cli import COMMANDS, commands, main
for name in commands.list_commands(None):
    commands.get_command(None, name)
running = []
for args in json.loads(sys.argv[1]):
    out = tempfile.TemporaryFile(dir=sys.argv[2])
    if (pid := os.fork()) == 0:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        try:
            os._exit(main(args))
        finally:
            os._exit(99)
    running.append((pid, out))
said = []
for pid, out in running:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    out.seek(0)
    said.append((code, out.read().decode()))
print(json.dumps(said))
"""


@pytest.fixture
def run_many(place: Path) -> Callable[..., list[tuple[list[str], int, str]]]:
    """Run command lines as somebody in a folder; return each with its exit code and its words."""
    (place / "out").mkdir()
    (place / "out").chmod(0o1777)

    def go(lines: list[list[str]], *, by: list[str], cwd: Path) -> list[tuple[list[str], int, str]]:
        done = subprocess.run(
            [*by, sys.executable, "-c", _MANY, json.dumps(lines), str(place / "out")],
            cwd=cwd,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(place / "root"),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert not [words for _, words in said if "Traceback" in words or "a bug" in words]
        return [(line, code, words) for line, (code, words) in zip(lines, said, strict=True)]

    return go


EVERY_WAY = [
    ["status"], ["health"], ["up"], ["up", "--foreground"], ["down"], ["reload"], ["ask", "what?"],
    ["shards", "test", "main"], ["mcp"], ["worker"], ["watchdog"], ["gateway"], ["logs"], ["init"],
]  # fmt: skip


def everything(root: Path) -> list[tuple[str, int, int, int]]:
    """Return whose everything is, and when it was changed."""
    return sorted(
        (str(path), (facts := path.lstat()).st_uid, facts.st_mode, facts.st_mtime_ns)
        for path in (root, *root.rglob("*"))
    )


def plant(folder: Path, ran: Path) -> None:
    """Put settings into a folder for everybody that run a program as whoever types a command."""
    folder.mkdir()
    folder.chmod(0o1777)
    script = folder / "answerer"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    config = folder / "autopoll.toml"
    command = f'backend = "command"\n[shards.main.options]\ncommand = ["{script}"]\n'
    config.write_text(f"[shards.main]\n{command}")
    if ME == 0:
        for path in (script, config):
            os.chown(path, NOBODY, NOBODY)


@pytest.mark.long
def test_no_command_runs_what_was_planted_in_a_folder_for_everybody(place, run, run_many) -> None:
    ran = place / "ran"
    plant(place / "tmp", ran)
    mine = place / "tmp" / "mine" / "sub"
    mine.mkdir(parents=True)
    before = everything(place / "tmp")
    found = [args for args in EVERY_WAY if args != ["init"]]  # which makes one where it is
    for args, code, words in run_many(found, by=[], cwd=mine):
        assert code == 2 and "is passed over" in words, (args, code, words)
    for args, code, words in run_many(EVERY_WAY, by=[], cwd=place / "tmp"):
        assert code == (4 if args == ["init"] else 2), (args, code, words)
    named = [[*args, "--home", str(place / "tmp")] for args in EVERY_WAY]
    for args, code, words in run_many(named, by=[], cwd=place):
        assert code in (4, 78) and "can be written by others" in words, (args, code, words)
    assert everything(place / "tmp") == before
    assert not ran.exists()
    run("init", by=[], cwd=mine, code=0)  # a home of our own may lie there


class TestWithASecondUser:
    __test__ = ME == 0

    @pytest.fixture
    def owner(self, request: pytest.FixtureRequest) -> int:
        """A user, mostly without an account, as of a folder of the host in a container."""
        return getattr(request, "param", NAMELESS)

    @pytest.fixture
    def home(self, place: Path, owner: int, run: Run) -> Iterator[Home]:
        """A home that belongs to the user."""
        folder = place / "user"
        folder.mkdir()
        os.chown(folder, owner, owner)
        home = Home(folder / "home")
        run("init", "home", by=user(owner), cwd=folder, code=0)
        home.config.write_text(ECHO)
        yield home
        give(home.root, owner)
        run("down", by=user(owner), cwd=home.root)

    @pytest.mark.long
    @pytest.mark.parametrize("owner", [NOBODY], indirect=True)
    def test_nobody_else_does_anything_there(self, run, run_many, home: Home, owner: int) -> None:
        before = everything(home.root)
        for by in ([], user(OTHER)):
            for args, code, words in run_many(EVERY_WAY, by=by, cwd=home.root):
                assert code in (4, 78), (by, args, words)
                assert f"{home.root} belongs to user {named(owner)}" in words
                assert f"sudo -u {for_sudo(owner)} autopoll" in words
        done = run("status", "--home", str(home.root), by=user(OTHER), cwd=home.root, code=4)
        assert f"belongs to user {named(owner)}" in done.stderr
        trusting = ["--trust", "--home", str(home.root)]
        done = run(*trusting, "status", by=user(OTHER), cwd=home.root, code=4)
        assert "No --trust holds for var" in done.stderr
        assert everything(home.root) == before

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("owner", "umask"), [(NOBODY, 0o022), (NAMELESS, 0o002)], indirect=["owner"]
    )
    def test_root_serves_it_as_its_owner_when_it_names_it(
        self, run: Run, home: Home, owner: int, umask: int
    ) -> None:
        for path in (home.root, home.config, home.supervisord_conf.parent):
            path.chmod(0o777 & ~umask if path.is_dir() else 0o666 & ~umask)
        named = ["--home", str(home.root)]
        run("up", *named, by=ROOT, cwd=home.root, code=0)
        asked = run("ask", "who?", "--json", *named, by=ROOT, cwd=home.root, code=0)
        assert json.loads(asked.stdout)["answer"] == "who?"
        run("health", *named, by=ROOT, cwd=home.root, code=0)
        assert {process.uids() for process in living(home)} == {(owner, owner, owner)}
        run("status", by=user(owner), cwd=home.root, code=0)
        run("down", *named, by=ROOT, cwd=home.root, code=0)
        assert {uid for _, uid, _, _ in everything(home.root)} == {owner}

    def test_root_serves_it_as_its_owner_when_it_has_trusted_it(
        self, run: Run, home: Home, place: Path
    ) -> None:
        before = {uid for _, uid, _, _ in everything(home.root)}
        run("--trust", "health", by=ROOT, cwd=home.root, code=2)
        run("messages", by=ROOT, cwd=home.root, code=0)
        assert {uid for _, uid, _, _ in everything(home.root)} == before
        kept = place / "root" / ".config" / "autopoll" / "trusted"
        assert (kept.read_text(), kept.stat().st_uid) == (f"{home.root}\n", 0)
        kept.write_text("")
        run("messages", by=ROOT, cwd=home.root, code=4)

    def test_root_does_not_become_the_owner_of_what_a_third_may_write_to(
        self, run: Run, home: Home
    ) -> None:
        named = ["--home", str(home.root)]
        os.chown(home.config, OTHER, -1)
        done = run("status", *named, by=ROOT, cwd=home.root, code=4)
        assert f"{home.config} belongs to user {OTHER}" in done.stderr
        done = run("--trust", "status", *named, by=ROOT, cwd=home.root, code=4)

    def test_root_makes_a_home_in_the_folder_of_a_user_as_that_user(
        self, run: Run, home: Home, owner: int
    ) -> None:
        new = home.root.parent / "new" / "home"
        run("init", str(new), by=ROOT, cwd=Path("/"), code=0)
        assert {uid for _, uid, _, _ in everything(new.parent)} == {owner}

    def test_an_image_with_settings_of_roots_and_a_var_of_the_users_works(
        self, run: Run, home: Home, owner: int
    ) -> None:
        for path in (home.root, home.config):
            os.chown(path, 0, 0)
        give(home.supervisord_conf.parent, 0)
        run("up", by=user(owner), cwd=home.root, code=0)
        asked = run("ask", "who?", by=user(owner), cwd=home.root, code=0)
        assert asked.stdout.startswith("who?")
        looked = run("status", "--home", ".", by=ROOT, cwd=home.root, code=0)  # docker exec -u 0
        assert looked.stdout.startswith("ready")
        run("down", by=user(owner), cwd=home.root, code=0)
        assert {uid for _, uid, _, _ in everything(home.var)} == {owner}

    @pytest.mark.long
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda home: give(home.var, 0),
            lambda home: os.chown(home.locks / "supervisord.lock", 0, 0),
            lambda home: (shutil.rmtree(home.beats), home.beats.mkdir(mode=0o700)),
        ],
        ids=["var", "a lock", "a folder of run"],
    )
    def test_what_root_has_left_in_var_is_named_with_the_command_that_mends_it(
        self, run, run_many, home: Home, owner: int, spoil: Callable[[Home], object]
    ) -> None:
        """As an earlier `sudo autopoll up` did, by every version before."""
        home.make_private()
        (home.locks / "supervisord.lock").write_text("1\n")
        give(home.var, owner)
        spoil(home)
        mend = f"sudo chown -R {named(owner)}{':' * (owner == NOBODY)} {home.var}"
        for args, code, words in run_many(EVERY_WAY, by=user(owner), cwd=home.root):
            assert code in ((2,) if args == ["health"] else (4, 78)), (args, words)
            assert "belongs to user root, not to you" in words and mend in words, args
        checks = json.loads(run("health", "--json", by=user(owner), cwd=home.root, code=2).stdout)[
            "checks"
        ]
        assert [check["name"] for check in checks if not check["ok"]] == ["home"]
        give(home.var, owner)
        run("messages", by=user(owner), cwd=home.root, code=0)

    def test_what_an_earlier_version_runs_as_root_is_taken_down_after_the_mend(
        self, run: Run, home: Home, owner: int
    ) -> None:
        give(home.root.parent, 0)
        run("up", by=[], cwd=home.root, code=0)
        assert {process.uids().real for process in living(home)} == {0}
        give(home.root.parent, owner)
        os.chown(home.locks / "supervisord.lock", 0, 0)
        done = run("down", by=user(owner), cwd=home.root, code=4)
        assert "belongs to user root" in done.stderr and done.stderr.endswith("autopoll down\n")
        give(home.var, owner)
        run("down", by=user(owner), cwd=home.root, code=0)
        assert not living(home)

    @pytest.mark.parametrize("owner", [NOBODY, NAMELESS], indirect=True)
    def test_what_has_become_the_owner_cannot_become_root_again(self, owner: int) -> None:
        code = (
            "import os, sys\n"
            "from autopoll.home import user_switch\n"
            "sys.executable = user_switch.__file__ = '/bin/sh'  # wherever this one lies\n"
            f"user_switch.become({owner}, {owner})\n"
            "assert os.getgroups() in ([], [os.getgid()]), os.getgroups()\n"
            "for become in (os.seteuid, os.setuid, os.setgid, os.setegid):\n"
            "    try:\n"
            "        become(0)\n"
            "    except PermissionError:\n"
            "        continue\n"
            "    sys.exit(become.__name__)\n"
            "print(os.getresuid(), os.getresgid(), *os.environ)\n"
        )
        environ = {
            "HOME": "/root", "USER": "root", "XDG_RUNTIME_DIR": "/run/user/0", "PATH": "/bin",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"{(owner,) * 3} {(owner,) * 3} ")
        assert "XDG_" not in done.stdout


def give(path: Path, uid: int) -> None:
    """Do what `chown -R` does."""
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)


def named(uid: int) -> str:
    return {NOBODY: "nobody"}.get(uid, str(uid))


def for_sudo(uid: int) -> str:
    return {NOBODY: "nobody"}.get(uid, f"'#{uid}'")


def living(home: Home) -> list[psutil.Process]:
    """Return the processes that work in the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == home.root:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
