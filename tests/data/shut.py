"""A program for the backend `command` that answers nothing until the file `go` lies in the home.

`told …` is answered piece by piece, `hopeless …` never.
"""

import json
import sys
import threading
import time
from pathlib import Path

lock = threading.Lock()


def say(**fields: object) -> None:
    with lock:
        print(json.dumps(fields), flush=True)


def work(number: int, question: str) -> None:
    while not Path("go").exists():
        time.sleep(0.01)
    if question.startswith("hopeless"):
        say(id=number, error="nobody knows", permanent=True)
        return
    if question.startswith("told"):
        for word in question.split():
            say(id=number, piece=f"{word} ")
            time.sleep(0.15)
    say(id=number, answer=f"you asked: {question}", usage={"output_tokens": 3})


say(ready=True)
for line in sys.stdin:
    said = json.loads(line)
    if "id" in said:
        threading.Thread(target=work, args=(said["id"], said["question"]), daemon=True).start()
