"""A home that knows the backends `naughty` and `odd`, installed as any other: by entry points."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from place import Place

DATA = Path(__file__).parents[1] / "data"


@contextmanager
def naughty_home(root: Path, config: str) -> Iterator[Place]:
    """Make a home below `root`, and take it down; the backends lie in tests/data."""
    package = root / "packages" / "naughty-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: naughty\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[autopoll.backends]\nnaughty = naughty:Naughty\nodd = odd:Odd\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), str(DATA)]))
        place = Place(root / "home", config)
    try:
        yield place
    finally:
        place.close()
