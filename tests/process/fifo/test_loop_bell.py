"""A bell on a loop: put back when it was taken away; what is foreign in its place is named."""

import asyncio
import logging

import pytest

from fifo.bell import ring
from fifo.loop_bell import LoopBell


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bell.fifo"


async def rings(bell_rang, seconds=5.0):
    """Tell whether it rings within the time."""
    try:
        await asyncio.wait_for(bell_rang.wait(), seconds)
    except TimeoutError:
        return False
    bell_rang.clear()
    return True


def test_a_bell_that_was_removed_is_put_back_and_rings_on_the_loop(path):
    async def run():
        rang = asyncio.Event()
        bell = LoopBell(path, rang.set)
        for _ in range(2):
            assert ring(path)
            assert await rings(rang)
            path.unlink()
            assert not ring(path)
            bell.look()
        before = path.stat().st_ino
        bell.look()
        assert path.stat().st_ino == before, "one in its place is left there"
        bell.close()

    asyncio.run(run())


def test_what_is_foreign_in_its_place_is_named_once_until_it_is_gone(path, caplog):
    def warnings():
        return [each for each in caplog.records if each.levelno == logging.WARNING]

    async def run():
        rang = asyncio.Event()
        bell = LoopBell(path, rang.set)
        path.unlink()
        path.write_text("precious")
        for _ in range(3):
            bell.look()
        assert f"{path} is a file" in bell.trouble
        assert "\n" not in bell.trouble
        [warning] = warnings()
        assert "the bell cannot be rung" in warning.getMessage()
        assert path.read_text() == "precious"
        path.unlink()
        bell.look()
        assert bell.trouble == ""
        assert ring(path)
        assert await rings(rang)
        path.unlink()
        path.mkdir()
        bell.look()
        assert "is a folder" in bell.trouble
        assert len(warnings()) == 2
        bell.close()

    asyncio.run(run())


def test_a_closed_bell_leaves_neither_its_pipe_nor_its_reader_on_the_loop(path):
    async def run():
        bell = LoopBell(path, lambda: None)
        descriptor = bell._bell.fileno()
        bell.close()
        bell.close()
        assert not path.exists()
        assert not asyncio.get_running_loop().remove_reader(descriptor)

    asyncio.run(run())
