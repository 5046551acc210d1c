"""Stands in for the Claude Code CLI: speaks its stream-json, and behaves as badly as it is told.

How it starts is told by words in the file of its own name with `.mood` added: version=1.2.3,
slow=S, die (with last words), deaf (never ready), no-version. How it answers, by words in the
question:

slow (as a first word)  300 ms          refused (as a first word)  the service says 429
!exit=N  !kill  !stop  !silent          in mid-query, after a first piece
!noise  !broken  !form  !huge=MB        on its output, in mid-query
!empty  !refusal  !error=KIND  !retry=KIND:STATUS:MS  !limit=SECONDS
!brood   starts a child in a session of its own, and tells its pid
!self    tells its environment, arguments, descriptors and folder
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

USAGE = {"input_tokens": 12, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 400,
         "output_tokens": 5}  # fmt: skip


def say(**message: object) -> None:
    sys.stdout.write(json.dumps({"uuid": "u", "session_id": "s", **message}) + "\n")
    sys.stdout.flush()


def piece(text: str) -> None:
    delta = {"type": "text_delta", "text": text}
    say(type="stream_event", event={"type": "content_block_delta", "index": 0, "delta": delta})


def assistant(text: str, error: str | None = None) -> None:
    message = {"role": "assistant", "model": "fake", "content": [{"type": "text", "text": text}]}
    say(type="assistant", message=message, error=error)


def result(text: str, **more: object) -> None:
    told = {
        "type": "result", "subtype": "success", "is_error": False, "duration_ms": 1,
        "duration_api_ms": 1, "num_turns": 1, "result": text, "usage": USAGE,
        "total_cost_usd": 0.25,
    }  # fmt: skip
    say(**{**told, **more})


def fail(kind: str, text: str) -> None:
    assistant(text, kind)
    result(text, is_error=True, api_error_status=None, terminal_reason=kind)


def answer_to(question: str, history: list[str]) -> str:
    system = Path(sys.argv[sys.argv.index("--system-prompt-file") + 1]).read_text("utf-8")
    name = ""
    for line in system.split("\n"):
        if heading := re.fullmatch(r"=== (.+) \([\d,]+ lines?\)", line):
            name = heading[1]
        elif name and (place := re.fullmatch(r"(\d+)\t(.*)", line)):
            words = re.findall(r"\w{5,}", place[2].lower())
            if any(word in question[:2000].lower() for word in words):
                return f"You asked: {question[:2000]} [{name}:{place[1]}-{place[1]}]"
    return f"You asked: {question[:2000]}, after {len(history)} others"


def tell_self() -> str:
    return json.dumps(
        {
            "environment": dict(os.environ),
            "arguments": sys.argv,
            "descriptors": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 256)
                            if os.path.exists(f"/proc/self/fd/{fd}")],
            "folder": os.getcwd(),
            "files": sorted(str(each) for each in Path().rglob("*") if each.is_file()),
            "pid": os.getpid(),
        }
    )  # fmt: skip


def misbehave(name: str, value: str) -> None:
    """Do what a word says and cannot be followed by an answer."""
    if name == "exit":
        sys.exit(int(value))
    elif name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif name == "silent":
        signal.pause()
    elif name == "broken":
        print('{"type": "assistant", oops', flush=True)
        signal.pause()
    elif name == "form":
        print('{"type": "result", "subtype": "success"}', flush=True)
        signal.pause()
    elif name == "huge":
        sys.stdout.write('{"type": "' + "x" * (int(value) << 20))
        sys.stdout.flush()
        signal.pause()


def answer(question: str, history: list[str]) -> None:
    words = dict(re.findall(r"!([a-z]+)(?:=([\w:.-]+))?", question[:4000]))
    if question.startswith("slow"):
        time.sleep(0.3)
    if question.startswith("refused"):
        words["retry"] = "rate_limit:429:7000"
    say(type="system", subtype="init", claude_code_version="2.1.332")
    if "noise" in words:
        print("[SandboxDebug] some words that are no message", flush=True)
    if "limit" in words:
        info = {"status": "rejected", "resetsAt": time.time() + int(words["limit"]),
                "rateLimitType": "five_hour"}  # fmt: skip
        say(type="rate_limit_event", rate_limit_info=info)
        fail("rate_limit", "You've hit your limit")
        return
    if "retry" in words:
        kind, status, delay = words["retry"].split(":")
        say(type="system", subtype="api_retry", error=kind, error_status=int(status) or None,
            retry_delay_ms=int(delay), attempt=1, max_retries=1)  # fmt: skip
        time.sleep(int(delay) / 1000)
    if "error" in words:
        fail(words["error"], f"it went wrong: {words['error']}")
        return
    say(type="stream_event", event={"type": "message_start", "message": {"usage": USAGE}})
    piece("You ")
    for name, value in words.items():
        misbehave(name, value)
    if "refusal" in words:
        end = {"stop_reason": "refusal", "stop_sequence": None}
        say(type="stream_event", event={"type": "message_delta", "delta": end, "usage": {}})
        signal.pause()
    text = answer_to(question, history)
    if "self" in words:
        text = tell_self()
    elif "brood" in words:
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        text = f"child {child.pid} of {os.getpid()}"
    elif "empty" in words:
        text = ""
    piece(text.removeprefix("You "))
    assistant(text)
    result(text)


def main() -> None:
    moods = Path(f"{sys.argv[1]}.mood")
    mood = dict(re.findall(r"([a-z-]+)(?:=(\S+))?", moods.read_text())) if moods.exists() else {}
    sys.argv.pop(1)
    if "--version" in sys.argv:
        print(
            "what?" if "no-version" in mood else f"{mood.get('version', '2.1.332')} (Claude Code)"
        )
        return
    if "die" in mood:
        sys.exit("error: no such option --tools")
    time.sleep(float(mood.get("slow", 0)))
    history: list[str] = []
    for line in sys.stdin:
        said = json.loads(line)
        if said["type"] == "control_request" and "deaf" not in mood:
            response = {"subtype": "success", "request_id": said["request_id"], "response": {}}
            say(type="control_response", response=response)
        elif said["type"] == "user":
            answer(said["message"]["content"], history)
            history.append(said["message"]["content"])


main()
