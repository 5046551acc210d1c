"""autopoll: a whole home, with what a question needs in every home."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.cost import chain
from bench.peers.apps import PATIENCE_S, Ask, here


@contextmanager
def asking() -> Iterator[Ask]:
    with chain.home(here(), chain.CONFIG) as asker:

        def ask(texts: Sequence[str], *, together: bool) -> list[str]:
            client, connection = asker.client, asker.connection
            commits = [texts] if together else [[text] for text in texts]
            asked = [client.ask(commit, "main", connection=connection).ids for commit in commits]
            ids = [number for numbers in asked for number in numbers]
            return [str(each.answer) for each in client.wait(ids, connection, timeout=PATIENCE_S)]

        yield ask
