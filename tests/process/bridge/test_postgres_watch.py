"""The connection by which news of other hosts come: it comes up, however slow, and misses none."""

import asyncio
import select
import time
from contextlib import closing

import pytest
from place import until
from postgres_calls import repeated

from autopoll.errors import BridgeError, BridgeUnavailable
from autopoll.poller import foreign_writes
from autopoll.poller.foreign_writes import ForeignWrites


@pytest.mark.parametrize("speaks", ["notify", "probe"])
def test_news_that_come_while_the_watch_itself_speaks_are_not_missed(
    server, name, open_bridge, speaks: str, monkeypatch
) -> None:
    monkeypatch.setattr(foreign_writes, "RETRY_S", 0.0)
    bridge = open_bridge(server.tcp_url(name))
    changes: list[None] = []

    async def main() -> None:
        with closing(ForeignWrites(bridge, lambda: changes.append(None))) as writes:
            until(lambda: writes.check() or writes._watch, 15)
            watch = writes._watch
            changes.clear()
            server.run_sql("NOTIFY autopoll", database=name)
            assert select.select([watch], [], [], 10)[0]
            if speaks == "notify":
                writes._notify()
            else:
                watch._probe_at = 0.0
                writes.check()
            assert changes

    asyncio.run(main())


def test_a_watch_hears_nothing_of_its_own_notifications(server, name, open_bridge) -> None:
    with closing(repeated(open_bridge(server.tcp_url(name)).watch)) as watch:
        for _ in range(3):
            watch.notify()
        assert not watch.read()


def test_a_session_to_which_no_news_is_sent_any_more_is_given_up_at_the_next_probe(
    server, name, open_bridge
) -> None:
    with closing(repeated(open_bridge(server.tcp_url(name)).watch)) as watch:
        watch._execute("UNLISTEN *")
        watch.require_alive()  # it looks only now and then
        watch._probe_at = 0.0
        with pytest.raises(BridgeUnavailable, match="no longer sends news"):
            watch.require_alive()
        with pytest.raises(BridgeError, match="closed"):
            watch.fileno()


def test_a_connection_that_takes_long_is_made_once_and_found_by_a_later_try(
    server, name, proxy, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name), listen_url=server.tcp_url(name, proxy.port))
    proxy.delay_s = 0.25
    with pytest.raises(BridgeUnavailable):
        bridge.watch()
    attempt = bridge._listening._attempt
    assert attempt and not attempt.done(), "the loop was blocked"
    repeated(bridge.watch).close()
    assert bridge._listening.made == 1


@pytest.mark.long
def test_a_session_that_dies_silently_is_replaced_within_fifteen_seconds(
    server, name, proxy, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name), listen_url=server.tcp_url(name, proxy.port))
    changes: list[None] = []

    async def main() -> None:
        with closing(ForeignWrites(bridge, lambda: changes.append(None))) as writes:
            until(lambda: writes.check() or writes._watch, 15)
            dead = writes._watch
            proxy.swallow()
            proxy.mend()  # for connections that are new
            end = time.monotonic() + 15
            while writes._watch in (None, dead):
                writes.check()
                assert time.monotonic() < end
                await asyncio.sleep(0.1)
            changes.clear()
            while not changes:
                server.run_sql("NOTIFY autopoll", database=name)
                assert time.monotonic() < end
                await asyncio.sleep(0.1)

    asyncio.run(main())


def test_a_watch_in_the_place_of_one_that_was_cut_is_not_closed_with_it(
    server, name, proxy, open_bridge
) -> None:
    bridge = open_bridge(server.tcp_url(name), listen_url=server.tcp_url(name, proxy.port))
    first = repeated(bridge.watch)
    proxy.cut()
    assert select.select([first], [], [], 10)[0]
    with pytest.raises(BridgeUnavailable):
        first.read()
    with closing(repeated(bridge.watch)) as second:
        first.close()
        server.run_sql("NOTIFY autopoll", database=name)
        assert select.select([second], [], [], 10)[0]
        assert second.read()
