"""Homes among files, folders and settings of the shell that nobody thought of."""

import shutil
import subprocess
import sys

from place import Place

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


def test_a_copy_of_a_home_that_is_up_leaves_it_alone_and_says_so(new_place) -> None:
    place = new_place(name="long/" + "x" * 120)
    place.run("up")
    copy = Place(place.root.with_name("copy"))
    copy.environ = place.environ
    shutil.rmtree(copy.root)
    shutil.copytree(place.root, copy.root, ignore=shutil.ignore_patterns("run"))
    for command in ("up", "status", "restart worker"):
        assert "is a copy of a home that is up" in copy.run(*command.split(), code=4).stderr
    assert "is a copy" in copy.run("health", code=2).stdout
    copy.run("down")
    assert place.json("health")["verdict"] == "ok"
    copy.home.supervisord_conf.unlink()
    copy.run("init", ".")
    copy.run("up")
    assert copy.ask("both?")["answer"] == place.ask("both?")["answer"] == "both?"
    copy.run("down")


def test_a_process_tree_behind_a_link_is_refused_with_the_reason(new_place) -> None:
    place = new_place()
    conf = place.home.supervisord_conf.parent
    conf.rename(place.root / "dotfiles")
    conf.symlink_to("dotfiles")
    assert "conf is a link to" in place.run("up", code=4).stderr
    conf.unlink()
    (place.root / "dotfiles").rename(conf)
