"""A watchdog: `watch.py HOME`."""

import sys
from pathlib import Path

from autopoll.home import Home
from autopoll.watchdog import run

run(Home(Path(sys.argv[1]).resolve()))
