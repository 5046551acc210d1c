"""A program that breaks the protocol of the backend `command` in the way its argument names."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

USAGE = {"input_tokens": 350, "cached_tokens": 9, "cost_usd": 0.25, "thinking": "a lot"}

way = sys.argv[1]


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def ask() -> dict[str, object]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def for_ever() -> None:
    while True:
        time.sleep(60)


def until_told() -> None:
    while sys.stdin.readline():
        pass


def raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


match way:
    case "die at start":
        sys.exit("no model")
    case "never ready":
        for_ever()
    case "ready late":
        time.sleep(0.2)
        say(ready=True)
    case "deaf":
        for_ever()
    case "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say(ready=True)
        for_ever()

told = ask()
number = told["id"]
match way:
    case "says what it was told":
        say(id=number, answer=json.dumps(told))
    case "exit 7":
        print("out of memory", file=sys.stderr)
        sys.exit(7)
    case "exit 0":
        sys.exit(0)
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "garbage":
        raw(b"\x00\xff Traceback (most recent call last)\n")
    case "long garbage":
        raw(b"x" * 1_000_000 + b"\n")
    case "deep":
        raw(b'{"id":1,"usage":{"a":' + b"[" * 100_000 + b"\n")
    case "list":
        say_list = json.dumps([1, 2])
        print(say_list, flush=True)
    case "number":
        say(id=number, answer=5)
    case "no id":
        say(answer="yes")
    case "empty object":
        say(id=number)
    case "long line":
        raw(b'{"id":1,"answer":"' + b"x" * (17 * 1024 * 1024) + b'"}\n')
    case "no newline":
        while True:
            raw(b"x" * 65536)
    case "tiny lines":
        tiny = json.dumps({"id": number, "progress": "x"}).encode() + b"\n"
        for _ in range(1000):
            raw(tiny * 1000)
        say(id=number, answer="done")
    case "closes stdout":
        os.close(1)
    case "closes stdin":
        os.close(0)
        for_ever()
    case "stderr flood":
        for _ in range(1000):
            os.write(2, b"warning: x\n" * 5000)
        os.write(2, b"the last line\n")
        say(id=number, answer="done")
        number = ask()["id"]
        sys.exit(9)
    case "strays":
        for stray in (0, 999, -1, number + 1):
            say(id=stray, answer="not yours", progress=None)
            say(id=stray, progress="not yours")
        say(id=number, answer="yours")
        say(id=number, answer="once more")
    case "answers and leaves":
        say(id=number, answer="last words")
        sys.exit(0)
    case "lines of every form":
        mark = b"\xef\xbb\xbf"
        half = b'"half \\ud83d"'
        raw(mark + b"\r\n" + b" \t\r\n\n" + mark + b'  {"ready": true}  \r\n')
        raw(b'{"id": %d, "piece": "\\ud83d"}\n' % number)
        raw(b'{"id": %d, "piece": "\xed\xb8\x80"}\r\n' % number)
        raw(mark + b' {"id": %d, "answer": %b, "sources": [%b]}\r\n' % (number, half, half))
        number = ask()["id"]
        raw(b'{"id": %d, "error": %b}\n' % (number, half))
    case "much and leaves":
        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
        raw(json.dumps({"id": number, "answer": "x" * 900_000}).encode() + b"\n")
        os._exit(0)
    case "grandchild":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.exit(5)
    case "daemon":
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        say(id=number, answer="done")
    case "answers late":
        time.sleep(0.3)
        say(id=number, answer="the first answer")
        if "cancel" not in (said := ask()):
            sys.exit(f"expected to be told to cancel, not {said}")
        number = ask()["id"]
        say(id=number, answer="the second answer")
    case "answers too late":
        time.sleep(1.3)
        say(id=number, answer="the first answer")
    case "retriable":
        say(id=number, error="overloaded", retriable=True, retry_after_ms=1500, usage=USAGE)
    case "unavailable":
        say(
            id=number, error="quota used up", unavailable="quota", resume_after_ms=1500, usage=USAGE
        )
        say(id=ask()["id"], error="no such key", unavailable="credentials", retriable=True)
    case "unavailable for no cause":
        say(id=number, error="never mind", unavailable="mood")
    case "permanent":
        say(id=number, error="no such model", usage=USAGE)
    case "empty answer":
        say(id=number, answer="", usage=USAGE)
    case "streams":
        for word in ("It ", "is ", ""):
            say(id=number, piece=word)
        say(id=number, piece="so.", progress="done", answer="It is so.")
    case "a piece of a number":
        say(id=number, piece=7)
    case "costly":
        say(id=number, answer="done", usage=USAGE)
        say(id=ask()["id"], answer="done", usage={"input_tokens": -1})
    case "environment":
        say(id=number, answer=json.dumps(dict(os.environ)))
    case "group":
        say(id=number, answer=str(os.getpgrp()))
    case "descriptors":
        say(id=number, answer=",".join(sorted(os.listdir("/proc/self/fd"))))
until_told()
