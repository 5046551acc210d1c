"""What a worker tells while its backend is at it: together, bounded, and as a sign of life."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from autopoll.process import heartbeat
from autopoll.process.heartbeat_writer import Heart
from autopoll.request import Progress
from autopoll.worker.progress import LARGEST, Reporter
from fifo.client_end import ClientEnd
from fifo.events import ProgressReceived, RequestReceived
from fifo.server_end import ServerEnd

Scene = Callable[[Reporter], Awaitable[None]]


def told(folder: Path, scene: Scene) -> tuple[list[Progress], int]:
    """Return what the poller's end is told during a scene, and the steps in the heartbeat."""
    frames: list[Progress] = []

    async def main() -> int:
        asked, ended = asyncio.Event(), asyncio.Event()

        def at_client(event: object) -> None:
            if isinstance(event, ProgressReceived):
                frames.append(msgspec.msgpack.decode(event.payload, type=Progress))
            elif not isinstance(event, ProgressReceived):
                ended.set()

        def at_server(event: object) -> None:
            if isinstance(event, RequestReceived):
                asked.set()

        server = ServerEnd(folder / "pair", credits=1, on_event=at_server)
        client = ClientEnd(folder / "pair", on_event=at_client)
        await server.start()
        async with asyncio.timeout(20):
            while not client.connected:
                client.poke()
                await asyncio.sleep(0)
            client.request(1, b"")
            await asked.wait()
            ended.clear()
            with Heart.open(folder, "worker", "worker") as heart:
                report = Reporter(heart, server, 1)
                report.begun()
                await scene(report)
                report.close()
                server.reply(1, b"")
                await ended.wait()
                beat = heartbeat.read(folder / "worker")
        client.close()
        await server.close()
        assert beat
        return beat.progress

    folder.mkdir(exist_ok=True)
    (folder / "pair").mkdir(mode=0o700)
    folder.chmod(0o700)
    return frames, asyncio.run(main())


def test_pieces_that_come_fast_are_sent_together_and_none_is_lost(tmp_path: Path) -> None:
    sent = []

    async def scene(report: Reporter) -> None:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            sent.append(f"{len(sent)} ")
            report.piece(sent[-1])
            await asyncio.sleep(0)
        await asyncio.sleep(0.06)

    frames, steps = told(tmp_path, scene)
    assert "".join(frame.piece for frame in frames) == "".join(sent)
    assert len(sent) > 100 > 12 > len(frames) > 3
    assert steps == len(frames) - 1  # the first tells of the begin, which the heartbeat has dated


def test_the_first_piece_is_sent_at_once_and_what_is_left_at_the_end_is_not(
    tmp_path: Path,
) -> None:
    async def scene(report: Reporter) -> None:
        report.piece("It ")
        report.piece("is ")

    frames, _ = told(tmp_path, scene)
    assert [frame.piece for frame in frames] == ["", "It "]


def test_of_many_notes_the_latest_is_sent(tmp_path: Path) -> None:
    async def scene(report: Reporter) -> None:
        for number in range(1000):
            report(f"reading {number}")
        report.piece("So ")
        await asyncio.sleep(0.06)

    frames, _ = told(tmp_path, scene)
    assert [(frame.text, frame.piece) for frame in frames] == [
        ("", ""),
        ("reading 0", ""),
        ("reading 999", "So "),
    ]


def test_an_endless_answer_stays_a_sign_of_life_when_no_more_of_it_is_sent(tmp_path: Path) -> None:
    async def scene(report: Reporter) -> None:
        report.piece("x" * (LARGEST - 1))
        report.piece("xyz")
        await asyncio.sleep(0.06)
        report.piece("more")
        await asyncio.sleep(0.06)

    frames, steps = told(tmp_path, scene)
    assert sum(len(frame.piece) for frame in frames) == LARGEST
    assert (frames[-1].piece, steps) == ("", 3)


def test_half_a_character_is_no_reason_to_fail(tmp_path: Path) -> None:
    async def scene(report: Reporter) -> None:
        report.piece("a \ude00")
        report("\ud83d")
        await asyncio.sleep(0.06)

    frames, _ = told(tmp_path, scene)
    said = [(frame.text, frame.piece) for frame in frames[1:]]
    assert said == [("", "a \ufffd"), ("\ufffd", "")]


@pytest.mark.parametrize(
    ("rest", "became"),
    [
        ("\ude00 yes", "a \U0001f600 yes"),
        (" no", "a \ufffd no"),
        ("\ud83d\ude00", "a \ufffd\U0001f600"),
    ],
)
def test_a_character_of_which_each_half_comes_in_a_piece_of_its_own_is_sent_whole(
    tmp_path: Path, rest: str, became: str
) -> None:
    async def scene(report: Reporter) -> None:
        report.piece("a \ud83d")  # is told at once, but for its end
        report.piece(rest)
        await asyncio.sleep(0.06)

    frames, _ = told(tmp_path, scene)
    assert frames[1].piece == "a "
    assert "".join(frame.piece for frame in frames) == became
