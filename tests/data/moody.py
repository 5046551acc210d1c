"""A program for the backend `command` whose mood stands in the file `mood`, read at every turn.

Without one it answers. Every question is written to the file `asked` first.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def mood() -> list[str]:
    try:
        return Path("mood").read_text().split()
    except FileNotFoundError:
        return []


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


match mood():
    case ["dies", "at", "start"]:
        sys.exit("no licence")
    case ["takes", "long", "to", "start"]:
        Path("mood").unlink()  # so that the test knows
        time.sleep(30)
    case ["kills", "its", "worker", "after", seconds]:
        worker = os.getppid()
        threading.Timer(float(seconds), os.kill, (worker, signal.SIGKILL)).start()
say(ready=True)
for line in sys.stdin:
    said = json.loads(line)
    if "question" not in said:
        continue
    with Path("asked").open("a") as asked:
        asked.write(said["question"] + "\n")
    match mood():
        case ["breaks"]:
            sys.exit("out of memory")
        case [("quota" | "overloaded" | "credentials") as cause, *given]:
            more = {"resume_after_ms": int(given[0])} if given else {}
            say(id=said["id"], error=f"no {cause} left", unavailable=cause, **more)
        case ["costs", tokens]:
            say(id=said["id"], answer="so", usage={"output_tokens": int(tokens), "cost_usd": 0.5})
        case ["fails", "for", tokens]:
            usage = {"output_tokens": int(tokens)}
            say(id=said["id"], error="no", retriable=True, retry_after_ms=1, usage=usage)
        case _:
            say(id=said["id"], answer=f"you asked: {said['question']}")
os._exit(0)  # whatever a timer is still to do
