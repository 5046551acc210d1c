"""A program for the backend `command` that writes its answer word by word."""

import json
import sys
import time

for line in sys.stdin:
    said = json.loads(line)
    if "question" not in said:
        continue
    words = [f"{word} " for word in said["question"].split()]
    for word in words:
        print(json.dumps({"id": said["id"], "piece": word}), flush=True)
        time.sleep(0.2)
    print(json.dumps({"id": said["id"], "answer": "".join(words)}), flush=True)
