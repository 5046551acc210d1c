"""pgmq, by its own SQL: a queue of questions and one of answers.

    python -m bench.postgres.apps.pgmq_app install|work

It keeps no results, so the worker sends its own, in the transaction that deletes what it has read.
Both sides read as soon as they are notified, without the throttle that is pgmq's default.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from pgmq.install import install_pgmq_from_sql
from psycopg.types.json import Jsonb

from bench.peers.apps import PATIENCE_S, POSTGRESQL_FOLDER, POSTGRESQL_USER, Ask, here

_CONNECTION = f"host={here() / POSTGRESQL_FOLDER} user={POSTGRESQL_USER} dbname=postgres"
_VISIBLE_S, _MOST = 60, 64
_READ = "SELECT msg_id, message FROM pgmq.read('questions', %s, %s)"
_SEND = "SELECT pgmq.send('questions', %s)"
_SEND_ALL = "SELECT pgmq.send_batch('questions', %s)"
_ANSWER = "SELECT pgmq.send_batch('answers', %s)"
_DELETE = "SELECT pgmq.delete('questions', %s)"
_TAKE = "SELECT message FROM pgmq.pop('answers', %s)"


def install() -> None:
    install_pgmq_from_sql(dsn=_CONNECTION)
    with psycopg.connect(_CONNECTION, autocommit=True) as connection:
        for queue in ("questions", "answers"):
            connection.execute("SELECT pgmq.create(%s)", (queue,))
            connection.execute("SELECT pgmq.enable_notify_insert(%s, 0)", (queue,))


def work() -> None:
    with _listening("questions") as connection:
        while True:
            found = connection.execute(_READ, (_VISIBLE_S, _MOST)).fetchall()
            if not found:
                _wait(connection, 1.0)
                continue
            with connection.transaction():
                answers = [Jsonb([number, text]) for number, text in found]
                connection.execute(_ANSWER, (answers,))
                connection.execute(_DELETE, ([number for number, _ in found],))


@contextmanager
def asking() -> Iterator[Ask]:
    with _listening("answers") as connection:

        def ask(texts: Sequence[str], *, together: bool) -> list[str]:
            if together:
                sent = connection.execute(_SEND_ALL, ([Jsonb(text) for text in texts],)).fetchall()
            else:
                sent = [
                    row
                    for text in texts
                    for row in connection.execute(_SEND, (Jsonb(text),)).fetchall()
                ]
            return _answers(connection, [number for (number,) in sent])

        yield ask


def _answers(connection: psycopg.Connection, numbers: Sequence[int]) -> list[str]:
    found: dict[int, str] = {}
    while len(found) < len(numbers):
        rows = connection.execute(_TAKE, (len(numbers),)).fetchall()
        found.update((number, text) for ((number, text),) in rows)
        if not rows and not _wait(connection, PATIENCE_S):
            raise TimeoutError(f"no answer within {PATIENCE_S} s")
    return [found[number] for number in numbers]


@contextmanager
def _listening(queue: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(_CONNECTION, autocommit=True) as connection:
        connection.execute(f'LISTEN "pgmq.q_{queue}.INSERT"')
        yield connection


def _wait(connection: psycopg.Connection, seconds: float) -> bool:
    return bool([*connection.notifies(timeout=seconds, stop_after=1)])


if __name__ == "__main__":
    {"install": install, "work": work}[sys.argv[1]]()
