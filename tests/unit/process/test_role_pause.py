"""The wait of a main loop between its turns."""

import asyncio

from autopoll.process import role


def test_a_pause_ends_in_time_or_with_the_news_and_no_earlier_one_ends_the_next() -> None:
    async def run() -> None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        await role.pause(news, 0.001)
        assert not news.is_set()
        loop.call_soon(news.set)
        async with asyncio.timeout(10):
            await role.pause(news, 0.05)
        assert not news.is_set()
        await asyncio.sleep(0.1)  # past the end of a pause that was over before
        assert not news.is_set()

    asyncio.run(run())
