"""The clock on the wall, moved for every process that has a copy of this folder on its PYTHONPATH.

By as many seconds as the file `shift` beside it says, which may change at any moment.
"""

import os
import time

_SHIFT = os.path.join(os.path.dirname(__file__), "shift")
_seconds, _nanoseconds = time.time, time.time_ns


def _shift() -> float:
    try:
        with open(_SHIFT) as file:
            return float(file.read())
    except FileNotFoundError:
        return 0.0


time.time = lambda: _seconds() + _shift()
time.time_ns = lambda: _nanoseconds() + round(_shift() * 1e9)
