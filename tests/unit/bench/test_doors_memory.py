"""How many clients can wait at the gateway whose memory is measured, and when too few do."""

import asyncio

import pytest

from autopoll.errors import AutopollError
from autopoll.gateway.admission import SHARE
from bench.doors import memory


@pytest.mark.parametrize("waiting", [1, 200, 385, memory.MOST_WAITING])
def test_a_gateway_has_room_for_all_that_are_to_wait(waiting: int) -> None:
    most = memory.connections(waiting)
    assert waiting < most - most // SHARE
    assert most <= 10_000


def test_clients_that_do_not_all_wait_in_time_are_an_error(monkeypatch) -> None:
    async def few(_port: int, _token: str) -> str:
        return "autopoll_gateway_waiting 1.0"

    async def with_waiting() -> None:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await memory.with_waiting(None, port, "token", 2)

    monkeypatch.setattr(memory, "metrics", few)
    monkeypatch.setattr(memory, "WAIT_S", 0)
    with pytest.raises(AutopollError, match="of 2 clients not all were waiting"):
        asyncio.run(with_waiting())
