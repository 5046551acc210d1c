"""How a process that serves for long notices changed settings."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prepared_home import prepared_home

from autopoll.client.client import Client
from autopoll.errors import BridgeUnavailable
from autopoll.gateway import bridge_thread
from autopoll.gateway.bridge_thread import BridgeThread
from autopoll.home import shard_files
from autopoll.home.config import load
from autopoll.home.home import Home

CONFIG = '[gateway]\nmax_wait = "2s"\n[shards.main]\nbackend = "echo"\n'
Story = Callable[[BridgeThread], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Story], None]:
    home = prepared_home(tmp_path, CONFIG)
    config = load(home, {})

    async def main(story: Story) -> None:
        thread = BridgeThread(home, config)
        try:
            await story(thread)
        finally:
            await thread.close()

    return lambda story: asyncio.run(main(story))


def shards(client: Client) -> list[str]:
    return list(client.config.shards)


def test_what_is_edited_added_or_removed_is_seen_by_the_next_call(run, monkeypatch) -> None:
    monkeypatch.setattr(bridge_thread, "LOOK_S", 3600.0)

    async def story(thread: BridgeThread) -> None:
        assert await thread.call(shards) == ["main"]
        shard_files.write(thread.home, "second", 'backend = "echo"\n')
        assert await thread.call(shards) == ["main", "second"]
        shard_files.remove(thread.home, "second")
        assert await thread.call(shards) == ["main"]
        assert thread.config.gateway.max_wait == 2
        thread.home.config.write_text(CONFIG.replace("2s", "30s"))
        await thread.call(shards)
        assert thread.config.gateway.max_wait == 30

    run(story)


def test_the_files_of_shards_are_looked_at_once_in_a_while_not_with_each_call(
    run, monkeypatch
) -> None:
    monkeypatch.setattr(bridge_thread, "LOOK_S", 3600.0)
    looks = []

    def counted(home: Home) -> shard_files.SettingsStamp:
        looks.append(home)
        return shard_files.settings_stamp(home)

    monkeypatch.setattr(bridge_thread, "settings_stamp", counted)

    async def story(thread: BridgeThread) -> None:
        for _ in range(20):
            await thread.call(shards)
        assert len(looks) == 1

    run(story)


def test_a_shards_file_that_is_written_in_place_is_seen_with_the_next_look(
    run, monkeypatch
) -> None:
    monkeypatch.setattr(bridge_thread, "LOOK_S", 0.0)

    async def story(thread: BridgeThread) -> None:
        shard_files.write(thread.home, "second", 'backend = "echo"\n')
        await thread.call(shards)
        path = shard_files.path_of(thread.home, "second")
        path.write_text('backend = "echo"\ninstances = 2\n')
        assert await thread.call(lambda client: client.config.shards["second"].instances) == 2

    run(story)


def test_what_waits_behind_a_server_that_is_not_reached_is_refused_at_once(
    run, monkeypatch
) -> None:
    tries: list[None] = []
    connect = bridge_thread.connect

    def away(*_: object) -> None:
        tries.append(None)
        raise BridgeUnavailable("the server does not answer", "Start it.")

    async def story(thread: BridgeThread) -> None:
        monkeypatch.setattr(bridge_thread, "connect", away)
        calls = map(thread.call, [shards] * 5)
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(each) for each in told] == ["the server does not answer\n  Start it."] * 5
        assert len(tries) == 1
        monkeypatch.setattr(bridge_thread, "RETRY_S", 0.0)
        monkeypatch.setattr(thread, "_retry_at", 0.0)
        for _ in range(2):
            with pytest.raises(BridgeUnavailable):
                await thread.call(shards)
        assert len(tries) == 3
        monkeypatch.setattr(bridge_thread, "connect", connect)
        assert await thread.call(shards) == ["main"]

    run(story)
