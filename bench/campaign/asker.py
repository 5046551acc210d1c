"""An asker of the campaign, a process of its own: `asker.py HOME NAME WAY SHARD`.

Asks "NAME 0", "NAME 1" and so on until the file `HOME/enough` is there, waits for the answers that
are still out, and prints how many questions it knows to be stored. What the bridge refuses is asked
again in the same words: a refusal must have stored nothing, so no text may be there twice.
"""

import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.client.client import Client
from autopoll.errors import AutopollError
from autopoll.home import config
from autopoll.home.home import Home
from fifo.exceptions import FifoError

OPEN = 3  # questions of one asker that wait for their answers
PAUSE_S = 0.1
LOOK_S = 0.02
LAST_S = 120.0  # from the end of the storm to the last answer


def main() -> None:
    root, name, way, shard = sys.argv[1:]
    home = Home(Path(root))
    enough = home.root / "enough"
    if way == "command":
        print(by_command(home, name, shard, enough))
        return
    settings = config.load(home)
    bridge = connect(home, settings)
    client = Client(home, settings, bridge)
    if way == "conversation":
        conversation = bridge.conversations.create("asker", shard).conversation
        bridge.conversations.serve(conversation, "b", shard)
    stored = 0
    waiting: deque[int] = deque()
    while not enough.exists():
        try:
            forget_answered(bridge, waiting)
            if len(waiting) < OPEN:
                text = f"{name} {stored}"
                if way == "conversation":
                    waiting.append(client.send(conversation, "a", text))
                else:
                    waiting += client.ask([text], shard).ids
                stored += 1
        except (AutopollError, FifoError, OSError) as error:
            print(error, file=sys.stderr)
        time.sleep(PAUSE_S)
    end = time.monotonic() + LAST_S
    while waiting and time.monotonic() < end:
        forget_answered(bridge, waiting)
        time.sleep(LOOK_S)
    print(stored)


def forget_answered(bridge: Bridge, waiting: deque[int]) -> None:
    """Take the answered questions from the front."""
    while waiting and bridge.messages.query_state(waiting[0]).answer is not None:
        waiting.popleft()


def by_command(home: Home, name: str, shard: str, enough: Path) -> int:
    """Ask as people do, by `autopoll ask`; each text once, because who fails may have stored it."""
    answered = number = 0
    while not enough.exists():
        done = subprocess.run(
            [sys.executable, "-m", "autopoll", "ask", f"{name} {number}", "--shard", shard],
            cwd=home.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
        )
        if done.returncode == 0:
            assert done.stdout.strip() == f"{name} {number}", done.stdout
            answered += 1
        number += 1
    return answered


if __name__ == "__main__":
    main()
