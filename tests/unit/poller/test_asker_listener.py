"""What the poller's socket does when it can accept nobody."""

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from autopoll.poller.asker_listener import AskerListener
from autopoll.process.poller_socket import short_address


def test_where_no_descriptor_is_left_nobody_is_accepted_until_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[int] = []
    full = True
    accept = socket.socket.accept

    def accept_if_there_is_room(self: socket.socket) -> tuple[socket.socket, object]:
        if full:
            refused.append(self.fileno())
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accept_if_there_is_room)

    async def run() -> None:
        nonlocal full
        accepted: list[socket.socket] = []
        listener = AskerListener(tmp_path / "poller.sock", lambda found: not accepted.append(found))
        with socket.socket(socket.AF_UNIX) as asker:
            with short_address(tmp_path / "poller.sock") as address:
                asker.connect(address)
            async with asyncio.timeout(10):
                while not refused:
                    await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(refused) == 1  # the loop does not spin on it
            assert "Too many open files" in listener.trouble
            listener.look()
            while len(refused) < 2:
                await asyncio.sleep(0)
            assert "Too many open files" in listener.trouble
            assert caplog.text.count("Too many open files") == 1, "it is logged once"
            full = False
            async with asyncio.timeout(10):
                while not accepted:
                    listener.look()
                    await asyncio.sleep(0)
            listener.look()
            assert listener.trouble == ""
        for each in accepted:
            each.close()
        listener.close()

    asyncio.run(run())


def test_a_connection_for_which_no_second_descriptor_is_left_is_refused_and_ends_nothing(
    tmp_path: Path,
) -> None:
    asked: list[socket.socket] = []
    crashes: list[object] = []

    def take(connection: socket.socket) -> bool:
        asked.append(connection)
        raise OSError(errno.EMFILE, "Too many open files")

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, found: crashes.append(found))
        listener = AskerListener(tmp_path / "poller.sock", take)
        with socket.socket(socket.AF_UNIX) as asker:
            with short_address(tmp_path / "poller.sock") as address:
                asker.connect(address)
            async with asyncio.timeout(10):
                while not listener.trouble:
                    await asyncio.sleep(0)
            asker.settimeout(10)
            assert asker.recv(1) == b"", "it is left open"
        assert "Too many open files" in listener.trouble
        listener.close()

    asyncio.run(run())
    assert len(asked) == 1
    assert not crashes
