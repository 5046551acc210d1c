"""A program for the backend `command` that says what stands in the file `told`, as it grows there.

Each line of it is what is said next about the question that was asked last; `{"die": true}` ends
the program instead, `{"pieces": 9, "every": 0.2}` is so many pieces at that pace, and then nothing.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

TOLD = Path("told")
DONE = Path("done")  # the number of lines that were said; another incarnation goes on from there
number = 0


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def follow() -> None:
    global number
    while True:
        done = int(DONE.read_text() or 0) if DONE.exists() else 0
        lines = TOLD.read_text().splitlines(keepends=True) if TOLD.exists() else []
        for line in [line for line in lines if line.endswith("\n")][done:] if number else []:
            done += 1
            DONE.write_text(str(done))
            match json.loads(line):
                case {"die": True}:
                    os._exit(3)
                case {"pieces": count, "every": pause}:
                    for _ in range(count):
                        time.sleep(pause)
                        say(id=number, piece="so ")
                case fields:
                    about, number = number, 0 if fields.keys() & {"answer", "error"} else number
                    say(id=about, **fields)
        time.sleep(0.01)


threading.Thread(target=follow, daemon=True).start()
say(ready=True)
for question in sys.stdin:
    said = json.loads(question)
    if "question" in said:
        number = said["id"]
    else:
        number = 0
        say(id=said["cancel"], error="cancelled")
