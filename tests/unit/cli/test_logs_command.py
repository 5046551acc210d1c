"""`autopoll logs`: all files as one, by time, through whatever happens to them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from place import until
from prepared_home import Run

from autopoll.cli import logs
from autopoll.cli.log_tail import Tail, log_files
from autopoll.errors import Exit
from autopoll.home.home import Home

TRACE = 'Traceback (most recent call last):\n  File "x"\n\n    raise\nValueError: {\n'


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "logs")


def line(second: float, text: str, **more: object) -> str:
    at = f"2026-03-01T10:00:{second:06.3f}+00:00"
    return json.dumps({"at": at, "level": "info", "logger": "x", "text": text, **more}) + "\n"


def texts(out: str) -> list[str]:
    return [json.loads(each)["text"] for each in out.splitlines()]


def test_a_traceback_is_one_record_at_its_place(home: Home, run: Run) -> None:
    (home.log / "a.log").write_text(line(1, "one") + TRACE + line(3, "three"))
    (home.log / "b.log").write_text(line(2, "two"))
    assert texts(run("--json")[1]) == ["one", TRACE.rstrip(), "two", "three"]
    _, out, _ = run()
    assert "Z a Traceback (most recent call last):\n  File" in out
    assert "10:00:01.000Z a info one" in out


def test_what_has_no_time_at_all_stands_at_that_of_its_file(home: Home, run: Run) -> None:
    (home.log / "a.log").write_text(line(1, "one") + line(59, "late"))
    (home.log / "b.stderr").write_text(TRACE)
    os.utime(home.log / "b.stderr", (1772359230, 1772359230))  # 10:00:30
    assert texts(run("--json")[1]) == ["one", TRACE.rstrip(), "late"]


def test_the_newest_are_shown_through_rotated_files(home: Home, run: Run) -> None:
    for number, name in enumerate(("a.log.2", "a.log.1", "a.log")):
        (home.log / name).write_text("".join(line(10 * number + n, f"{number}{n}") for n in "123"
                                             for n in [int(n)]))  # fmt: skip
    every = [f"{number}{n}" for number in range(3) for n in (1, 2, 3)]
    for count in range(10):
        assert texts(run("--json", "-n", str(count))[1]) == every[len(every) - count :]


def test_of_a_large_file_the_newest_are_read_whole(home: Home, run: Run) -> None:
    with (home.log / "a.log").open("w") as file:
        for number in range(3000):
            file.write(line(number / 100, f"{number} " + "x" * 500))
        file.write(line(40, "y" * 5_000_000))
    found = texts(run("--json", "-n", "3")[1])
    assert [text[:4] for text in found] == ["2998", "2999", "yyyy"]
    assert len(found[-1]) == 5_000_000


def test_only_what_came_since_a_moment_is_shown(home: Home, run: Run) -> None:
    (home.log / "a.log").write_text("".join(line(n, str(n)) for n in range(60)))
    assert texts(run("--json", "--since", "2026-03-01T10:00:57Z")[1]) == ["57", "58", "59"]
    assert texts(run("--json", "--since", "2026-03-01T10:00:00", "-n", "2")[1]) == ["58", "59"]
    assert len(texts(run("--json", "--since", "2026-03-01")[1])) == 60, "not only the newest 50"
    assert run("--since", "2099-01-01")[1] == ""
    assert run("--since", "tomorrow")[0] == Exit.USAGE


def test_a_file_is_followed_through_truncation_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    tail = Tail(path)
    assert tail.last(5) == [] == list(tail.fresh())
    path.write_text(line(1, "one"))
    assert [record["text"] for record in tail.fresh()] == ["one"]
    path.write_text("")
    assert list(tail.fresh()) == []
    path.write_text(line(2, "2"))
    assert [record["text"] for record in tail.fresh()] == ["2"]
    with path.open("a") as file:
        file.write(line(3, "three"))
    path.rename(tmp_path / "a.log.1")
    path.write_text(line(4, "four"))
    assert [record["text"] for record in tail.fresh()] == ["three", "four"]


def test_what_is_written_just_before_a_rotation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(line(1, "one"))

    class Rotated(Tail):
        def _rotated(self) -> bool:
            if not (tmp_path / "a.log.1").exists():
                with path.open("a") as file:
                    file.write(line(2, "two"))
                path.rename(tmp_path / "a.log.1")
                path.write_text(line(3, "three"))
            return super()._rotated()

    assert [record["text"] for record in Rotated(path).fresh()] == ["one", "two", "three"]


@pytest.fixture
def following(home: Home) -> Iterator[list[str]]:
    """What `autopoll logs -f` prints, line by line, while the test writes."""
    (home.log / "a.log").write_text(line(0, "begin"))
    process = subprocess.Popen(
        [sys.executable, "-m", "autopoll", "logs", "-f", "--home", str(home.root)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen: list[str] = []
    threading.Thread(target=lambda: seen.extend(process.stdout), daemon=True).start()
    until(lambda: seen, what="the first line")
    yield seen
    process.terminate()
    process.wait(timeout=30)


def test_followed_files_are_merged_by_time_with_those_that_come_later(
    home: Home, following: list[str]
) -> None:
    with (home.log / "a.log").open("a") as a:
        (home.log / "later.log").write_text(line(2, "two"))
        a.write(line(1, "one") + line(3, "three") + TRACE)
    until(lambda: "ValueError: {\n" in following, what="the last line")
    found = [each.split()[1:] for each in following]
    assert found[:4] == [
        ["a", "info", "begin"], ["a", "info", "one"], ["later", "info", "two"],
        ["a", "info", "three"],
    ]  # fmt: skip


def test_what_is_younger_than_a_look_waits_for_what_was_written_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def found(folder: Path, name: str | None) -> list[Path]:
        """Write behind the back of the look that asks for the files."""
        nonlocal looks
        looks += 1
        if looks == 1:
            (folder / "a.log").write_text(json.dumps({"at": now(), "text": "later"}) + "\n")
        elif looks == 2:
            (folder / "b.log").write_text(json.dumps({"at": earlier, "text": "earlier"}) + "\n")
        return log_files(folder, name)

    def now() -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds")

    earlier = now()
    monkeypatch.setattr(logs, "log_files", found)
    shown = logs._following(tmp_path, None, {})
    assert [next(shown)["text"], next(shown)["text"]] == ["earlier", "later"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n\n", b"\xff\xfe\n", b"{\n", b'{"at":5}\n', b'{"at":null,"text":{"a":1}}\n', b"[]\n",
     b"\x00" * 1000, b'{"text":"\x1b[2J"}\n', b"2026-02-31 10:00:00,000 x\n",
     b"9999-12-31 23:59:59,999 x\n", b"{" * 10_000 + b"\n"],
)  # fmt: skip
def test_whatever_is_in_a_file_it_is_shown_and_harmless(home: Home, run: Run, data: bytes) -> None:
    (home.log / "a.log").write_bytes(data)
    for args in ([], ["--json"], ["--since", "1h"]):
        code, out, err = run(*args)
        assert (code, err) == (Exit.OK, "")
        assert "\x1b" not in out
