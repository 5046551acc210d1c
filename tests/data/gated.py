"""A program for the backend `command` that answers once the file `go` is there."""

import json
import sys
import time
from pathlib import Path

for line in sys.stdin:
    said = json.loads(line)
    if "question" not in said:
        continue
    while not Path("go").exists():
        time.sleep(0.02)
    print(json.dumps({"id": said["id"], "answer": said["question"]}), flush=True)
