"""A name stands for one thing: a class is found by its name, a module by its file."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("autopoll", "fifo") for path in (ROOT / folder).rglob("*.py")]


def test_every_class_name_occurs_once_whether_private_or_not() -> None:
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_file_name_occurs_once_but_for_the_same_part_of_two_engines() -> None:
    engines = {ROOT / "autopoll/bridge" / engine for engine in ("postgres", "sqlite")}
    places = defaultdict(set)
    for path in FILES:
        if path.name != "__init__.py":
            folder = "an engine" if path.parent in engines else path.parent.relative_to(ROOT)
            places[path.name].add(str(folder))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_file_of_tests_has_a_name_of_its_own_as_pytest_needs_it() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) > 100
    assert {name for name in names if names.count(name) > 1} == set()
