"""The time on the wall comes from one place, so that one test can move it for all."""

import re
from pathlib import Path

import autopoll

ROOT = Path(autopoll.__file__).parent
OTHER_CLOCKS = re.compile(
    r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(|date\.today\(|time\.(gmtime|localtime)\("
    r"|from time import|strftime\('|'now'\)"
)


def test_nobody_reads_the_clock_on_the_wall_but_clock() -> None:
    # The measurements say when they were taken, and nothing goes by that.
    files = [path for path in ROOT.rglob("*.py") if "bench" not in path.parts]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        if path.name != "clock.py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if OTHER_CLOCKS.search(line)
    ]
    assert len(files) > 100
    assert found == []
