"""The ends of a pair for tests: in this process, and as processes that are killed and stopped.

`fifo_end.py server FOLDER` answers `hold` with nothing, `big:N` with N bytes, `flood:N` with N
progress frames of 64 KiB and then a reply, anything else with itself. `fifo_end.py client FOLDER`
connects and sends a request of each size that it reads from stdin; at `become` it hands its link
over to itself by exec, and at `become torn` when half a frame has come. Both write what happens to
stdout, an event a line.
"""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from functools import wraps
from pathlib import Path

import msgspec

from fifo import events, server_end
from fifo.client_end import ClientEnd
from fifo.handed_link import HandedLink
from fifo.server_end import ServerEnd

TICK_S = 0.05  # the server looks after its pair once a second; tests do not wait that long


def on_loop(test):
    """Let an async function be a test."""

    @wraps(test)
    def run(*arguments, **named):
        asyncio.run(test(*arguments, **named))

    return run


async def until(condition, seconds=10.0):
    """Wait until the condition holds and return what it gives."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.005)
    return found


def stand_still_until(condition, seconds=10.0):
    """Wait until the condition holds while our own loop does not turn: nothing is read."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def unread(descriptor):
    """Return how many bytes wait in the pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


class Process:
    """One end as a process."""

    def __init__(self, role, folder, log):
        self.log = log
        with log.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, __file__, role, str(folder)], stdin=subprocess.PIPE, stdout=out
            )

    @property
    def pid(self):
        return self.popen.pid

    def saw(self, text):
        return self.log.read_text().count(text)

    def tell(self, line):
        self.popen.stdin.write(f"{line}\n".encode())
        self.popen.stdin.flush()

    def stop(self):
        """Stop it, and return when it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def carry_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def memory(self):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) * 1024


class End:
    """An end in this process, and what it was told."""

    def __init__(self):
        self.events = []

    def told(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class Asker(End):
    def __init__(self, folder):
        super().__init__()
        self.client = ClientEnd(folder, on_event=self.events.append)

    @property
    def epoch(self):
        """The epoch of the pair that the client joined last."""
        return self.told(events.Connected)[-1].epoch

    def poked(self):
        self.client.poke()
        return self.client.connected

    async def connect(self):
        await until(self.poked)
        return self

    async def ask(self, request_id, payload):
        self.client.request(request_id, payload)
        return await until(lambda: self.answer(request_id))

    def answer(self, request_id):
        answers = self.told(events.ReplyReceived | events.FailureReceived)
        return next((one for one in answers if one.request_id == request_id), None)


class Answerer(End):
    """Answers every request with its own payload, unless told to hold."""

    def __init__(self, folder, credits=4, hold=False):
        super().__init__()
        self.hold = hold
        self.server = ServerEnd(folder, credits=credits, on_event=self.on_event)

    def on_event(self, event):
        self.events.append(event)
        if isinstance(event, events.RequestReceived) and not self.hold:
            self.server.reply(event.request_id, event.payload)

    @property
    def epoch(self):
        """The epoch of the latest pair."""
        return self.told(events.PairPublished)[-1].epoch

    async def start(self):
        await self.server.start()
        return self


def say(event):
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    if "payload" in fields:
        fields["payload"] = len(fields["payload"])
    print(type(event).__name__, fields, flush=True)


async def serve(folder):
    def on_event(event):
        say(event)
        match event:
            case events.CancelReceived(request_id=request_id):
                server.fail(request_id, b"cancelled")
            case events.RequestReceived(request_id=request_id, payload=b"hold"):
                pass
            case events.RequestReceived(request_id=request_id, payload=payload):
                word, _, size = bytes(payload[:20]).partition(b":")
                if word == b"flood":
                    for _ in range(int(size)):
                        server.progress(request_id, bytes(64 * 1024))
                server.reply(request_id, bytes(int(size)) if word == b"big" else payload)

    server = ServerEnd(folder, credits=16, on_event=on_event)
    await server.start()
    await asyncio.Event().wait()


async def ask(folder, handed=None):
    client = ClientEnd(folder, on_event=say)
    wanted = []
    become = []
    if handed:
        handed = msgspec.msgpack.decode(Path(handed).read_bytes(), type=HandedLink)
        handed.keep_open(False)
        client.go_on(handed)
        print("Became", handed.session.in_flight, flush=True)

    def on_stdin():
        words = sys.stdin.readline().split()
        become.extend(word for word in words if word.isalpha())
        wanted.extend(int(word) for word in words if word.isdecimal())

    asyncio.get_running_loop().add_reader(0, on_stdin)
    sent = 0
    while True:
        client.poke()
        while wanted and client.free:
            sent += 1
            client.request(sent, bytes(wanted.pop(0)))
            await asyncio.sleep(0)  # one turn: it is in the pipe, as far as there is room
            print("Sent", sent, flush=True)
        if become:
            while "torn" in become and not client._link.session.torn:
                await asyncio.sleep(0)
            handed = client.hand_over()
            kept = folder.with_suffix(".handed")
            kept.write_bytes(msgspec.msgpack.encode(handed))
            handed.keep_open(True)
            print("Unsent", bool(handed.unsent), "Unread", bool(handed.session.unread), flush=True)
            os.execv(sys.executable, [sys.executable, __file__, "client", str(folder), str(kept)])
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    server_end.TICK_S = TICK_S
    asyncio.run({"server": serve, "client": ask}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
