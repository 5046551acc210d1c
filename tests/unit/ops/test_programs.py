"""The programs of a home, as supervisord itself reads the files that are written for it."""

import os
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from autopoll.errors import ConfigError
from autopoll.home.config import load
from autopoll.home.home import Home
from autopoll.ops.init import found
from autopoll.ops.programs import write_programs

SETTINGS = """\
[gateway]
enabled = true
[shards.main]
backend = "echo"
instances = 2
[shards.notes]
backend = "echo"
"""
# As commits before wrote it, by putting other words into the section of the first worker.
EARLIER = """\
[program:worker-notes-1]
command = autopoll worker --home . --shard notes --instance 1
environment = AUTOPOLL_INSTANCE="%(program_name)s"
priority = 20
startsecs = 3
startretries = 3
autorestart = unexpected
exitcodes = 78
stopsignal = TERM
stopwaitsecs = 30
stopasgroup = false
killasgroup = true
stdout_logfile = NONE
stderr_logfile = %(here)s/../../var/log/worker-notes-1.stderr
stderr_logfile_maxbytes = 1MB
stderr_logfile_backups = 3
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made, _ = found(tmp_path / "home")
    made.config.write_text(SETTINGS)
    return made


def write(home: Home) -> None:
    write_programs(home, load(home, {}))


def programs(home: Home) -> dict[str, object]:
    """Return what supervisord makes of the home's files, by the name of each program."""
    options = ServerOptions()
    options.here = str(home.supervisord_conf.parent)
    section = options.read_config(str(home.supervisord_conf))
    return {each.name: each.process_configs[0] for each in section.process_group_configs}


def edit(home: Home, old: str, new: str) -> None:
    text = home.supervisord_conf.read_text()
    assert old in text
    home.supervisord_conf.write_text(text.replace(old, new))


def test_every_instance_and_the_gateway_is_a_program_of_its_own(home: Home) -> None:
    write(home)
    made = programs(home)
    workers = {
        "worker-main-2": "--shard main --instance 2",
        "worker-notes-1": "--shard notes --instance 1",
    }
    assert set(made) == {"watchdog", "worker", "poller", "gateway", *workers}
    for name, arguments in workers.items():
        assert made[name].command == f"autopoll worker --home . {arguments}"
        assert made[name].environment["AUTOPOLL_INSTANCE"] == name
        assert made[name].priority == made["worker"].priority
    assert made["gateway"].command == "autopoll gateway --home ."
    assert made["gateway"].priority > made["poller"].priority
    for name in (*workers, "gateway"):
        path = os.path.normpath(made[name].stderr_logfile)
        assert path == str(home.log / f"{name}.stderr")


def test_files_that_earlier_commits_wrote_are_accepted_as_they_are(home: Home) -> None:
    home.program_files.mkdir()
    path = home.program_files / "notes.conf"
    path.write_text(EARLIER)
    before = programs(home)["worker-notes-1"]
    path.chmod(0o400)
    facts = path.stat()
    write(home)
    assert path.read_text() == EARLIER
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (facts.st_ino, facts.st_mtime_ns)
    path.unlink()
    write(home)
    after = programs(home)["worker-notes-1"]
    assert vars(before).keys() == vars(after).keys()
    assert (before.command, before.stderr_logfile) == (after.command, after.stderr_logfile)


@pytest.mark.parametrize(
    "damage", ["", "half", "[program:worker-notes-1]\ncommand = evil\n", "\xff"]
)
def test_a_file_that_holds_something_else_is_written_again(home: Home, damage: str) -> None:
    home.program_files.mkdir()
    (home.program_files / "notes.conf").write_text(damage, encoding="latin-1")
    (home.program_files / "gone.conf").write_text(EARLIER)
    write(home)
    assert not (home.program_files / "gone.conf").exists()
    assert programs(home)["worker-notes-1"].command.endswith("--shard notes --instance 1")


@pytest.mark.parametrize(
    ("command", "read"),
    [
        ("/opt/a%%b;c#d/autopoll", "/opt/a%b;c#d/autopoll"),
        ("'/opt/a b/autopoll'", "'/opt/a b/autopoll'"),
        ("nice -n 5 autopoll", "nice -n 5 autopoll"),
        ("/bin/worker autopoll", "/bin/worker autopoll"),
        ("autopoll ; as it was\n ", "autopoll"),
    ],
)
def test_what_people_wrote_before_the_arguments_is_kept_as_supervisord_reads_it(
    home: Home, command: str, read: str
) -> None:
    edit(home, "command = autopoll worker", f"command = {command} worker")
    write(home)
    made = programs(home)
    assert made["worker"].command.split() == [*read.split(), *WORDS, "main", "--instance", "1"]
    assert made["worker-notes-1"].command.split()[-3:] == ["notes", "--instance", "1"]
    for name in ("worker-main-2", "worker-notes-1", "gateway"):
        role = "gateway" if name == "gateway" else "worker"
        assert made[name].command.split()[: len(read.split()) + 1] == [*read.split(), role]


def test_arguments_within_quotes_are_replaced_in_their_place(home: Home) -> None:
    begin = 'sh -c \'X="a  b" exec  /opt/worker-env/run autopoll'
    edit(home, "command = autopoll worker", f"command = {begin} worker")
    edit(home, "--shard main --instance 1\n", "--shard main --instance 1'\n")
    write(home)
    made = programs(home)
    assert made["worker-main-2"].command == f"{begin} worker --home . --shard main --instance 2'"
    assert made["worker-notes-1"].command == f"{begin} worker --home . --shard notes --instance 1'"
    assert made["gateway"].command == f"{begin} gateway --home .'"


@pytest.mark.parametrize(
    "given",
    [
        "--shard main-2 --instance 10",
        "--shard='main' --instance \"1\"",
        "--shard notes --instance=1",
    ],
)
def test_arguments_are_replaced_whole_whatever_the_first_worker_is_given(
    home: Home, given: str
) -> None:
    edit(home, "worker --home . --shard main --instance 1\n", f"worker -v --home . {given}\n")
    write(home)
    made = programs(home)
    assert made["worker-main-2"].command == "autopoll worker -v --home . --shard main --instance 2"
    assert (
        made["worker-notes-1"].command == "autopoll worker -v --home . --shard notes --instance 1"
    )
    assert made["gateway"].command == "autopoll gateway -v --home ."


def test_wherever_the_first_worker_logs_the_others_have_files_of_their_own(home: Home) -> None:
    edit(
        home,
        "stdout_logfile = NONE\nstderr_logfile = %(here)s/../var/log/worker.",
        "stdout_logfile = %(here)s/worker.out\nstderr_logfile = /tmp/worker.",
    )
    write(home)
    made = programs(home)
    for name in ("worker-main-2", "gateway"):
        assert made[name].stderr_logfile == f"/tmp/{name}.stderr"
        assert os.path.normpath(made[name].stdout_logfile) == str(
            home.supervisord_conf.parent / f"{name}.out"
        )


def test_a_process_tree_that_cannot_be_read_is_named_with_the_line(home: Home) -> None:
    edit(home, "[program:poller]", "stray\n[program:poller]")
    with pytest.raises(ConfigError, match=r"supervisord\.conf cannot be read: .*stray"):
        write(home)


def test_an_edited_priority_is_that_of_the_gateway_too(home: Home) -> None:
    edit(home, "priority = 20", "priority = 25")
    write(home)
    assert programs(home)["gateway"].priority == 25


WORDS = ["worker", "--home", ".", "--shard"]


def test_options_of_people_go_into_every_program_and_paths_lead_where_they_led(home: Home) -> None:
    edit(
        home,
        "command = autopoll worker --home . --shard main --instance 1\n",
        "command = autopoll worker --instance 1 --shard main --home %(here)s/..\n"
        "directory = %(here)s/..\nstdout_logfile = %(here)s/../var/log/worker.out;x\n",
    )
    edit(
        home,
        "stdout_logfile = NONE\nstderr_logfile = %(here)s/../var/log/worker.",
        "stderr_logfile = /dev/",
    )
    write(home)
    made = programs(home)["worker-notes-1"]
    words = made.command.split()
    assert words[:6] == ["autopoll", "worker", "--instance", "1", "--shard", "notes"]
    assert os.path.normpath(words[-1]) == os.path.normpath(made.directory) == str(home.root)
    assert os.path.normpath(made.stdout_logfile) == str(home.log / "worker-notes-1.out;x")
    assert made.stderr_logfile == "/dev/stderr"


@pytest.mark.parametrize("lacking", ["--shard main", "--instance 1", "worker "])
def test_a_command_that_cannot_be_given_to_others_is_refused_with_how_to_write_it(
    home: Home, lacking: str
) -> None:
    edit(
        home,
        "command = autopoll worker --home . --shard main --instance 1",
        "command = autopoll worker --home . --shard main --instance 1".replace(lacking, ""),
    )
    with pytest.raises(ConfigError) as refused:
        write(home)
    assert f"lacks {lacking.split()[0]}" in refused.value.what
    assert str(home.supervisord_conf) in refused.value.what
    assert "autopoll worker --home . --shard main --instance 1" in refused.value.mend
