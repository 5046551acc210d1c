"""A well-behaved program for the backend `command`; questions are answered side by side.

`slow …` is answered after a while, with progress, and can be cancelled; `refused …` gets the word
that the quota is used up.
"""

import json
import sys
import threading

cancelled: dict[int, threading.Event] = {}
lock = threading.Lock()


def say(**fields: object) -> None:
    with lock:
        print(json.dumps(fields), flush=True)


def work(number: int, question: str) -> None:
    if question.startswith("slow"):
        say(id=number, progress="thinking")
        if cancelled[number].wait(2.0 if question.startswith("slowly") else 0.3):
            say(id=number, error="cancelled")
            return
    if question.startswith("refused"):
        say(id=number, error="no quota left", unavailable="quota", resume_after_ms=60_000)
        return
    say(
        id=number,
        answer=f"you asked: {question}",
        sources=["a.md:1-2"],
        usage={"output_tokens": 3, "words": 3},
    )


say(ready=True)
for line in sys.stdin:
    said = json.loads(line)
    if "cancel" in said:
        cancelled[said["cancel"]].set()
        continue
    cancelled[said["id"]] = threading.Event()
    threading.Thread(target=work, args=(said["id"], said["question"])).start()
