"""procrastinate on PostgreSQL. It keeps no results, so the task writes its own, and notifies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from procrastinate import App, JobContext, PsycopgConnector

from bench.peers.apps import PATIENCE_S, POSTGRESQL_FOLDER, POSTGRESQL_USER, Ask, here

_CONNECTION = f"host={here() / POSTGRESQL_FOLDER} user={POSTGRESQL_USER} dbname=postgres"
_TABLE = "CREATE TABLE IF NOT EXISTS answers (job bigint PRIMARY KEY, text text NOT NULL)"
_WRITE = """
WITH written AS (INSERT INTO answers VALUES (%(job)s, %(text)s) RETURNING job)
SELECT pg_notify('answered', job::text) FROM written
"""
_READ = "SELECT job, text FROM answers WHERE job = ANY(%s)"

app = App(connector=PsycopgConnector(conninfo=_CONNECTION))


@app.task(pass_context=True)
async def echo(context: JobContext, text: str) -> None:
    await app.connector.execute_query_async(_WRITE, job=context.job.id, text=text)


@contextmanager
def asking() -> Iterator[Ask]:
    with app.open(), psycopg.connect(_CONNECTION, autocommit=True) as connection:
        connection.execute(_TABLE)
        connection.execute("LISTEN answered")

        def ask(texts: Sequence[str], *, together: bool) -> list[str]:
            if together:
                jobs = echo.batch_defer(*({"text": text} for text in texts))
            else:
                jobs = [echo.defer(text=text) for text in texts]
            return _answers(connection, jobs)

        yield ask


def _answers(connection: psycopg.Connection, jobs: Sequence[int]) -> list[str]:
    found: dict[int, str] = {}
    while len(found) < len(jobs):
        told = [int(each.payload) for each in connection.notifies(timeout=PATIENCE_S, stop_after=1)]
        if not told:
            raise TimeoutError(f"no answer within {PATIENCE_S} s")
        found.update(connection.execute(_READ, (told,)).fetchall())
    return [found[job] for job in jobs]
