"""Who has to go when there are too many connections."""

import pytest

from autopoll.gateway.admission import Admission
from autopoll.gateway.problems import Refused


class Client:
    """A connection whose turn the test decides."""

    def __init__(self, peer: str = "here") -> None:
        self.peer = peer
        self.is_ours = False
        self.is_idle = False
        self.is_evicted = False

    def evict(self) -> None:
        self.is_evicted = True


class Crowd:
    """Clients of a gateway that lets in sixteen, of whom twelve may have a token."""

    def __init__(self) -> None:
        self.audited: list[str] = []
        self.admission = Admission(16, self.audited.append)

    def stranger(self, peer: str = "here", *, served: bool = False) -> Client:
        client = Client(peer)
        assert self.admission.enter(client)
        client.is_ours = served
        self.admission.changed(client)
        return client

    def queued(self, peer: str = "here") -> Client:
        client = self.stranger(peer, served=True)
        self.admission.queue(client)
        return client

    def holder(self, *, idle: bool = False) -> Client:
        client = self.queued()
        self.admission.prove(client)
        client.is_ours, client.is_idle = not idle, idle
        self.admission.changed(client)
        return client


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_the_stranger_who_has_waited_for_longest_makes_room_for_the_next(crowd) -> None:
    first, *others = [crowd.stranger() for _ in range(16)]
    assert not first.is_evicted
    newest = crowd.stranger()
    assert first.is_evicted
    assert not any(each.is_evicted for each in (*others, newest))
    assert crowd.audited == ["too-many-connections"]


def test_strangers_whose_turn_is_ours_are_not_sent_away(crowd) -> None:
    served = [crowd.stranger(served=True) for _ in range(12)]
    waiting = [crowd.stranger() for _ in range(8)]
    assert [each.is_evicted for each in waiting] == [True] * 4 + [False] * 4
    assert not any(each.is_evicted for each in served)


def test_of_two_peers_the_one_with_more_strangers_makes_room(crowd) -> None:
    alone = crowd.stranger("there")
    many = [crowd.stranger("here") for _ in range(18)]
    assert not alone.is_evicted
    assert [each.is_evicted for each in many] == [True] * 3 + [False] * 15


def test_who_has_shown_a_token_is_never_sent_away_for_strangers(crowd) -> None:
    holders = [crowd.holder() for _ in range(12)]
    for _ in range(50):
        crowd.stranger()
    assert not any(each.is_evicted for each in holders)


def test_holders_of_tokens_leave_room_for_strangers(crowd) -> None:
    for _ in range(12):
        crowd.holder()
    with pytest.raises(Refused, match="too many connections"):
        crowd.queued()
    assert not crowd.stranger().is_evicted


def test_whose_token_has_waited_for_longest_to_be_looked_up_makes_room_for_the_next(crowd) -> None:
    holders = [crowd.holder() for _ in range(8)]
    first, *others = [crowd.queued() for _ in range(4)]
    newest = crowd.queued()
    assert first.is_evicted
    assert not any(each.is_evicted for each in (*holders, *others, newest))
    assert crowd.audited == ["too-many-connections"]
    with pytest.raises(Refused, match="too many connections"):
        crowd.admission.prove(first)
    crowd.admission.prove(newest)


def test_of_two_peers_with_tokens_to_be_looked_up_the_one_with_more_makes_room(crowd) -> None:
    alone = crowd.queued("there")
    many = [crowd.queued("here") for _ in range(13)]
    assert not alone.is_evicted
    assert [each.is_evicted for each in many] == [True] * 2 + [False] * 11


def test_who_leaves_before_the_token_is_looked_up_takes_no_room(crowd) -> None:
    for each in [crowd.queued() for _ in range(12)]:
        crowd.admission.leave(each)
        crowd.admission.queue(each)
        crowd.admission.disprove(each)
    assert not any(each.is_evicted for each in [crowd.queued() for _ in range(12)])


def test_an_idle_holder_goes_before_anybody_is_refused(crowd) -> None:
    idle = crowd.holder(idle=True)
    for _ in range(11):
        crowd.holder()
    for _ in range(4):
        crowd.stranger(served=True)
    newest = crowd.stranger(served=True)
    assert idle.is_evicted
    crowd.admission.queue(newest)
    crowd.admission.prove(newest)
    assert not crowd.admission.enter(Client())


def test_a_token_that_opens_nothing_makes_a_stranger_again(crowd) -> None:
    liar = crowd.holder()
    liar.is_ours = False
    crowd.admission.disprove(liar)
    for _ in range(16):
        crowd.stranger()
    assert liar.is_evicted


def test_who_has_left_takes_no_room(crowd) -> None:
    for each in [crowd.holder() for _ in range(12)]:
        crowd.admission.leave(each)
        crowd.admission.leave(each)
    for each in [crowd.stranger() for _ in range(4)]:
        crowd.admission.leave(each)
    clients = [crowd.holder() for _ in range(12)] + [crowd.stranger() for _ in range(4)]
    assert not any(each.is_evicted for each in clients)
    assert crowd.audited == []


def test_one_connection_is_enough_for_each_in_its_turn() -> None:
    admission = Admission(1, lambda _: None)
    waiting, holder = Client(), Client()
    assert admission.enter(waiting)
    assert admission.enter(holder)
    assert waiting.is_evicted
    holder.is_ours = True
    admission.changed(holder)
    admission.queue(holder)
    admission.prove(holder)
    assert not admission.enter(Client())
