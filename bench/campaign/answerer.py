"""The program of the campaign's shard `tool`: gives each question back, one JSON object a line."""

import json
import sys
import time

for line in sys.stdin:
    said = json.loads(line)
    if "id" in said:
        time.sleep(0.02)
        print(json.dumps({"id": said["id"], "answer": said["question"]}), flush=True)
