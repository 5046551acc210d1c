"""A watchdog: `watch.py HOME`; one in a hurry: `watch.py HOME fast`."""

import sys
from pathlib import Path

from autopoll.home.home import Home
from autopoll.process.verdict import Thresholds
from autopoll.watchdog import memory_watch
from autopoll.watchdog.watchdog import run

root, *speed = sys.argv[1:]
thresholds = Thresholds()
if speed == ["fast"]:
    memory_watch.EVERY_S = 1.0
    thresholds = Thresholds(draining=2.0)
run(Home(Path(root).resolve()), thresholds)
