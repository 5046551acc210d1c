"""Which questions are looked up in a turn, of askers that follow many."""

from typing import cast

from autopoll.poller.asker_connection import AskerConnection
from autopoll.poller.look_up_queue import LookUpQueue


class Asker:
    """Stands in for a connection, of which the queue only knows whether it is behind."""

    is_behind = False


def an_asker() -> AskerConnection:
    return cast("AskerConnection", Asker())


def turn(queue: LookUpQueue) -> dict[AskerConnection, list[int]]:
    found = queue.next()
    for asker, numbers in found.items():
        for number in numbers:
            assert queue.take(number, asker) is False
    return found


def test_an_asker_that_follows_many_keeps_no_other_waiting() -> None:
    queue, many, few = LookUpQueue(), an_asker(), an_asker()
    for number in range(1000):
        queue.add(number, many, pieces=False)
    queue.add(7, few, pieces=False)
    assert list(turn(queue)) == [many]
    assert turn(queue)[few] == [7]
    while queue:
        turn(queue)


def test_an_asker_that_is_behind_has_to_read_first() -> None:
    queue, asker = LookUpQueue(), an_asker()
    queue.add(1, asker, pieces=True)
    asker.is_behind = True  # type: ignore[misc]
    assert queue.next() == {}
    assert queue.take(1, asker) is None, "its pieces come when it has read"
    asker.is_behind = False  # type: ignore[misc]
    assert queue.next() == {asker: [1]}
    assert queue.take(1, asker) is True
    assert not queue


def test_nothing_is_looked_up_for_an_asker_that_is_gone() -> None:
    queue, asker = LookUpQueue(), an_asker()
    queue.add(1, asker, pieces=False)
    queue.forget(asker)
    assert not queue
    assert queue.take(1, asker) is None
