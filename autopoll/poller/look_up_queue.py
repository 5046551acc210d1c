"""The questions that are to be looked up in the store for askers that began to follow them."""

from collections import OrderedDict
from itertools import islice

from autopoll.poller.asker_connection import AskerConnection

_AT_ONCE = 32  # questions looked up in one turn, with their answers


class LookUpQueue:
    """Gives out some at a time, by turns of the askers; an asker that is behind has to read first.

    Else an asker that follows very many would hold up the others, or be cut off itself.
    """

    def __init__(self) -> None:
        # With pieces or without. Ordered, as a dict passes over all that were taken from its front.
        self._wanted: dict[AskerConnection, OrderedDict[int, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def add(self, message_id: int, connection: AskerConnection, pieces: bool) -> None:
        """Have a question looked up."""
        self._wanted.setdefault(connection, OrderedDict())[message_id] = pieces

    def forget(self, connection: AskerConnection) -> None:
        """Look up nothing more for an asker."""
        self._wanted.pop(connection, None)

    def next(self) -> dict[AskerConnection, list[int]]:
        """Return what to look up in this turn."""
        found, room = {}, _AT_ONCE
        for connection, wanted in self._wanted.items():
            if room and not connection.is_behind:
                found[connection] = [*islice(wanted, room)]
                room -= len(found[connection])
        return found

    def take(self, message_id: int, connection: AskerConnection) -> bool | None:
        """Take a question out; tell whether with pieces. Its asker then waits for its turn again.

        None when the asker is gone; or when it wants pieces and is behind, so that it stays in.
        """
        wanted = self._wanted.pop(connection, OrderedDict())
        if wanted.get(message_id) and connection.is_behind:
            pieces = None
        else:
            pieces = wanted.pop(message_id, None)
        if wanted:
            self._wanted[connection] = wanted
        return pieces
