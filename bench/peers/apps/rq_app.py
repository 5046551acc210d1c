"""RQ on Redis."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from redis import Redis
from rq import Queue
from rq.job import Job

from bench.peers.apps import PATIENCE_S, REDIS_SOCKET, Ask, here


def echo(text: str) -> str:
    return text


@contextmanager
def asking() -> Iterator[Ask]:
    with Redis(unix_socket_path=str(here() / REDIS_SOCKET)) as connection:
        queue = Queue(connection=connection)

        def ask(texts: Sequence[str], *, together: bool) -> list[str]:
            if together:
                jobs = queue.enqueue_many([Queue.prepare_data(echo, (text,)) for text in texts])
            else:
                jobs = [queue.enqueue(echo, text) for text in texts]
            return [_answer(job) for job in jobs]

        yield ask


def _answer(job: Job) -> str:
    result = job.latest_result(timeout=PATIENCE_S)
    if result is None:
        raise TimeoutError(f"no answer within {PATIENCE_S} s")
    return str(result.return_value)
