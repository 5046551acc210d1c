"""`python tests/mock_api --port 0`: the service as a process of its own, until TERM."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mock_api.server import MockApi

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--mood", default="")
parser.add_argument("--key", help="the only key that is let in")
options = parser.parse_args()

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with MockApi(options.port) as api:
    api.mood, api.key = options.mood, options.key
    print(api.url, flush=True)
    signal.pause()
