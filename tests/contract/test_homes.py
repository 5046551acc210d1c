"""The homes that answer for a bridge, as an operator sees them."""

from typing import Any

import pytest
from answerers import LEASE, take_over
from bridge_calls import OWN, ask, claim, settle, talk
from bridge_calls import answered as answer
from bridge_stores import Store

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import AnsweringHome
from autopoll.errors import AlreadyRunning

WEEK_MS = 7 * 24 * 3600 * 1000
ONE: dict[str, Any] = {"home": "1" * 32, "host": "one", "folder": "/a", "version": "2"}


def only(bridge: Bridge) -> AnsweringHome:
    (home,) = bridge.overview.homes()
    return home


def test_a_home_is_shown_with_what_it_serves_and_holds(bridge: Bridge) -> None:
    assert bridge.overview.homes() == []
    take_over(bridge, **ONE, shards=["main", "logs"])
    shown = {**ONE, "shards": ["main", "logs"], "beat_age_ms": 0, "alive": True}
    assert only(bridge) == AnsweringHome(**shown, in_flight=0)
    ask(bridge, talk(bridge), "1", "2", metadata=OWN)
    (first, _) = claim(bridge)
    assert only(bridge) == AnsweringHome(**shown, in_flight=2)
    settle(bridge, answer(first))
    assert only(bridge) == AnsweringHome(**shown, in_flight=1)


def test_the_age_of_a_beat_is_told_by_the_clock_of_the_store_and_a_lease_without_one_ends_it(
    bridge: Bridge, store: Store
) -> None:
    take_over(bridge)
    store.clock.now += LEASE - 1
    assert (only(bridge).beat_age_ms, only(bridge).alive) == (LEASE - 1, True)
    bridge.deliveries.renew([], "me", LEASE)
    assert (only(bridge).beat_age_ms, only(bridge).alive) == (0, True)
    store.clock.now += LEASE
    assert (only(bridge).beat_age_ms, only(bridge).alive) == (LEASE, False)
    store.clock.now -= 10 * LEASE
    assert only(bridge).beat_age_ms == 0, "a clock that was set back makes no age below nothing"


def test_an_owner_that_has_left_is_shown_as_ended_at_once(bridge: Bridge, store: Store) -> None:
    take_over(bridge)
    store.clock.now += 10
    bridge.deliveries.leave("me")
    bridge.deliveries.leave("nobody")
    assert (only(bridge).beat_age_ms, only(bridge).alive) == (0, False)
    take_over(bridge, "next")
    bridge.deliveries.leave("me")
    assert only(bridge).alive, "what an earlier owner of the home says counts no more"


def test_an_owner_shows_other_shards_after_a_reload(bridge: Bridge) -> None:
    take_over(bridge, shards=["main"])
    bridge.deliveries.set_shards("me", ["main", "schr\u00f6dinger's"])
    bridge.deliveries.set_shards("nobody", ["none"])
    assert only(bridge).shards == ["main", "schr\u00f6dinger's"]


def test_a_home_is_shown_once_however_often_it_starts(bridge: Bridge) -> None:
    take_over(bridge, "first", **ONE)
    take_over(bridge, "second", **{**ONE, "version": "3"})
    assert only(bridge).version == "3"
    assert only(bridge).in_flight == 0


def test_a_home_that_is_gone_for_a_week_is_shown_no_more_until_it_beats_again(
    bridge: Bridge, store: Store
) -> None:
    other = store.open()
    take_over(bridge, **ONE, shards=["main"])
    bridge.deliveries.set_shards("me", ["main", "logs"])
    store.clock.now += WEEK_MS + LEASE
    bridge.deliveries.reap()
    assert not only(bridge).alive, "dead for a week, and not longer"
    store.clock.now += 1
    other.deliveries.reap()
    assert bridge.overview.homes() == []
    other.deliveries.renew([], "me", LEASE)
    assert bridge.overview.homes() == [], "who has not taken over does not know whose owner it is"
    bridge.deliveries.renew([], "me", LEASE)
    shown = AnsweringHome(**ONE, shards=["main", "logs"], beat_age_ms=0, alive=True, in_flight=0)
    assert only(bridge) == shown


def test_a_poller_that_another_of_its_home_has_replaced_is_shown_no_more(
    bridge: Bridge, store: Store
) -> None:
    take_over(bridge, **ONE)
    store.foreign("UPDATE pollers SET owner='another', version='3'")  # from another process
    bridge.deliveries.renew([], "me", LEASE)
    assert only(bridge).version == "3"


def test_homes_are_shown_by_host_and_folder(bridge: Bridge) -> None:
    for number, (host, folder) in enumerate([("b", "/1"), ("a", "/2"), ("a", "/1")]):
        take_over(bridge, f"{number}", home=f"{number:032}", host=host, folder=folder)
    shown = [(home.host, home.folder) for home in bridge.overview.homes()]
    assert shown == [("a", "/1"), ("a", "/2"), ("b", "/1")]


def test_a_copy_of_a_home_that_is_up_is_refused_until_that_has_left(
    bridge: Bridge, store: Store
) -> None:
    copy = store.open()
    take_over(bridge, "original", **ONE)
    for other in ({"host": "two"}, {"folder": "/b"}):
        with pytest.raises(AlreadyRunning) as refused:
            take_over(copy, "copy", **{**ONE, **other})
        assert refused.value.mend
    assert only(bridge).folder == "/a"
    bridge.deliveries.leave("original")
    bridge.close()  # in an embedded store that is what ends an answerer
    take_over(copy, "copy", **{**ONE, "folder": "/b"})
    assert only(copy).folder == "/b"
