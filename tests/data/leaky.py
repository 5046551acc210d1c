"""A program for the backend `command` that blurts out the secret it is told to find in a file."""

import json
import sys
from pathlib import Path

for line in sys.stdin:
    asked = json.loads(line)
    if "question" not in asked:
        continue
    way, _, number = asked["question"].partition(" ")
    secret = json.loads(Path("secrets.json").read_text())[int(number)]
    said: dict[str, object] = {"id": asked["id"]}
    match way:
        case "error":
            said["error"] = f"the provider refuses {secret} as a key"
        case "retriable":
            said |= {"error": f"the provider refuses {secret} for now", "retriable": True}
        case "answer":
            said |= {"answer": f"it is {secret} indeed", "sources": []}
        case "progress":
            print(json.dumps({**said, "progress": f"trying {secret}"}), flush=True)
            said["answer"] = "done"
        case "garbage":
            print("x" * (79 - len(secret) * 3 // 4), secret, flush=True)  # 80 bytes are shown
        case "exit":
            print(secret, "." * (8190 - len(secret) * 3 // 4), sep="\n", file=sys.stderr)
            sys.exit(3)
    print(json.dumps(said), flush=True)
