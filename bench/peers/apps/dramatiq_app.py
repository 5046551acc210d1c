"""Dramatiq on Redis, for the queue and for the results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers.apps import PATIENCE_S, REDIS_SOCKET, Ask, here

_url = f"unix://{here() / REDIS_SOCKET}"
_broker = RedisBroker(url=_url)
_broker.add_middleware(Results(backend=RedisBackend(url=_url)))
dramatiq.set_broker(_broker)


@dramatiq.actor(store_results=True)
def echo(text: str) -> str:
    return text


@contextmanager
def asking() -> Iterator[Ask]:
    yield ask


def ask(texts: Sequence[str], *, together: bool) -> list[str]:
    """Ask; what it calls a group is sent message by message too."""
    timeout = PATIENCE_S * 1000
    if together:
        group = dramatiq.group(echo.message(text) for text in texts).run()
        return list(group.get_results(block=True, timeout=timeout))
    return [each.get_result(block=True, timeout=timeout) for each in [echo.send(t) for t in texts]]
