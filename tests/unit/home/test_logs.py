import json
import os
import subprocess
import sys
from pathlib import Path

START = (
    "import logging, sys, pathlib\n"
    "from autopoll.home import log_files\n"
    "log_files.setup(pathlib.Path(sys.argv[1]), 'role')\n"
    "log = logging.getLogger('a.b')\n"
)


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + code, str(folder)], capture_output=True, text=True
    )


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "role.log").read_text().splitlines()]


def test_a_record_is_one_json_object_a_line_in_a_private_file(tmp_path: Path) -> None:
    os.umask(0o022)
    done = run(
        tmp_path,
        "log.info('two\\nlines %d', 5, extra={'query': 7, 'path': pathlib.Path('x')})\n"
        "try: 1/0\n"
        "except ZeroDivisionError: log.exception('oops')\n"
        "import warnings; warnings.warn('careful')\n",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second, third = lines(tmp_path)
    assert first["text"] == "two\nlines 5"
    assert (first["level"], first["logger"], first["query"], first["path"]) == (
        "info",
        "a.b",
        7,
        "x",
    )
    assert str(first["at"]).endswith("+00:00")
    assert first["process"] == "role"
    assert "ZeroDivisionError" in str(second["trace"])
    assert "careful" in str(third["text"])
    for name in ("role.log", "role.stacks"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_secrets_do_not_reach_the_file(tmp_path: Path) -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ0123456789"
    run(
        tmp_path,
        f"log.info('got %s', '{token}', extra={{'key': '{token}'}})\n"
        f"try: raise ValueError('{token}')\n"
        "except ValueError: log.exception('oops')\n",
    )
    assert len(lines(tmp_path)) == 2
    assert "ghp_0123" not in (tmp_path / "role.log").read_text()


def test_the_files_stay_bounded(tmp_path: Path) -> None:
    run(tmp_path, "for _ in range(6): log.info('x' * 4_000_000)")
    kept = sorted(each.name for each in tmp_path.glob("role.log*"))
    assert kept == ["role.log", "role.log.1", "role.log.2"]
    assert all(each.stat().st_size <= 5 * 1024 * 1024 for each in tmp_path.glob("role.log*"))


def test_a_full_disk_costs_records_but_not_the_process_and_is_recovered_from(
    tmp_path: Path,
) -> None:
    done = run(
        tmp_path,
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log.info('before')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))\n"
        "for n in range(1000): log.info('lost ' * 50)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "log.info('after')\n",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "role.log").read_text().splitlines()
    assert json.loads(text[0])["text"] == "before"
    assert json.loads(text[-1])["text"] == "after"


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "role.log").symlink_to("precious")
    assert run(tmp_path, "log.info('x')").returncode != 0
    assert (tmp_path / "precious").read_text() == "precious"


def test_stacks_are_written_when_asked_for_and_when_the_interpreter_dies(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import os, signal\n"
        "def where_it_hangs(): os.kill(os.getpid(), signal.SIGUSR1)\n"
        "where_it_hangs()\n"
        "def where_it_dies(): os.abort()\n"
        "where_it_dies()\n",
    )
    assert done.returncode == -6
    stacks = (tmp_path / "role.stacks").read_text()
    assert "in where_it_hangs" in stacks
    assert "in where_it_dies" in stacks


def test_processes_that_share_a_log_rotate_it_once_for_all_and_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import logging, sys, pathlib\n"
        "from autopoll.home import log_files\n"
        "log_files._MAX_BYTES = 60_000\n"
        "log_files.setup(pathlib.Path(sys.argv[1]), 'role', shared=True)\n"
        "log = logging.getLogger('a.b')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(200): log.info('x' * 50, extra={'who': sys.argv[2], 'n': n})\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.wait(30) == 0
        writer.communicate()
    found = [
        json.loads(line)
        for path in tmp_path.glob("role.log*")
        for line in path.read_text().splitlines()
    ]
    assert sorted((line["who"], line["n"]) for line in found) == sorted(
        (str(who), n) for who in range(4) for n in range(200)
    )
    assert (tmp_path / "role.log.1").stat().st_size > 30_000
