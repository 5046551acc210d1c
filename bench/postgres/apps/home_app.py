"""A home of autopoll on the server; its settings lie in the folder of the turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.cost import chain
from bench.peers.apps import PATIENCE_S, Ask, here
from bench.postgres.apps.settings import ELSEWHERE, SETTINGS


@contextmanager
def asking() -> Iterator[Ask]:
    settings = (here() / SETTINGS).read_text()
    with chain.home(here(), settings) as asker:
        client, connection = asker.client, asker.connection
        if (here() / ELSEWHERE).exists():  # from now on the shard of another home answers
            conversation, _ = client.own_session("main")
            client.bridge.conversations.serve(conversation, "b", "far")

        def ask(texts: Sequence[str], *, together: bool) -> list[str]:
            commits = [texts] if together else [[text] for text in texts]
            asked = [client.ask(commit, "main", connection=connection).ids for commit in commits]
            ids = [number for numbers in asked for number in numbers]
            return [str(each.answer) for each in client.wait(ids, connection, timeout=PATIENCE_S)]

        yield ask
