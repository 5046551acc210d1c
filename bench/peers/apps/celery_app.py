"""Celery on Redis, for the queue and for the results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery, group

from bench.peers.apps import PATIENCE_S, REDIS_SOCKET, Ask, here

_url = f"redis+socket://{here() / REDIS_SOCKET}"
app = Celery("bench", broker=_url, backend=_url)
app.conf.task_acks_late = True  # a task outlives the worker that began it


@app.task
def echo(text: str) -> str:
    return text


@contextmanager
def asking() -> Iterator[Ask]:
    yield ask


def ask(texts: Sequence[str], *, together: bool) -> list[str]:
    if together:
        answers: list[str] = group(echo.s(text) for text in texts)().get(timeout=PATIENCE_S)
        return answers
    return [each.get(timeout=PATIENCE_S) for each in [echo.delay(text) for text in texts]]
