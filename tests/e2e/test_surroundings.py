"""Homes among files, folders and settings of the shell that nobody thought of."""

import subprocess
import sys

MODULES = ["json", "random", "types", "struct", "click", "apsw", "msgspec", "supervisor"]


def test_files_that_are_named_like_modules_of_python_are_not_run(new_place) -> None:
    place = new_place()
    for name in MODULES:
        (place.root / f"{name}.py").write_text("raise SystemExit('run by mistake')")
    for name in ("autopoll", "fifo"):
        (place.root / name).mkdir()
        (place.root / name / "__init__.py").write_text("raise SystemExit('run by mistake')")
    # The command itself is as safe as the script `autopoll`; what it starts is under test.
    place.command = [sys.executable, "-P", "-m", "autopoll"]
    started = subprocess.run(
        [*place.command, "up", "--home", str(place.root)],
        cwd=place.root.parent,
        env=place.environ | {"PYTHONPATH": ":/nowhere"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, started.stderr
    assert place.ask("still mine?")["answer"] == "still mine?"
