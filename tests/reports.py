"""Figures, reports and sections for tests of the benchmark, without measuring anything."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cost.figures import Figure
from bench.cost.machine import Machine
from bench.cost.report import Report

MACHINE = Machine("a processor", 2, 24, "6.1", "ext4", "CPython 3.11.2", "3.51.3")
SECTION = """
from bench.cost.figures import Figure

def measure(scale, folder, say):
    (folder / "data.db").write_text("x")
    say("measuring")
    {body}
"""
GOOD = "return [Figure(section='product', name='one', value=900.0, unit='us', ratio=1.25)]"


def figure(name: str = "one", **fields: Any) -> Figure:
    return Figure(**{"section": "product", "name": name, "value": 900.0, "unit": "us", **fields})


def report(*figures: Figure, **fields: Any) -> Report:
    given = {
        "version": "1",
        "machine": MACHINE,
        "started": datetime(2025, 1, 2, 3, 4, tzinfo=UTC),
        "seconds": 12.3,
        "load": 0.1,
        "scale": 1.0,
        "figures": list(figures),
        "failures": [],
    }
    return Report(**{**given, **fields})


def write_sections(folder: Path, bodies: dict[str, str]) -> dict[str, str]:
    """Write a module for each section (name -> what measure does) and return the mapping."""
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (folder / f"fake_{name}.py").write_text(SECTION.format(body=body))
    return {name: f"fake_{name}" for name in bodies}
