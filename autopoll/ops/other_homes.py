"""What other homes on the same bridge do, so that a change of one home concerns itself alone."""

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import AnsweringHome
from autopoll.home.home import Home
from autopoll.home.identity import known_identity


def others_serving(home: Home, bridge: Bridge, shard: str) -> list[AnsweringHome]:
    """Return the living homes beside this one that answer for a shard."""
    mine = known_identity(home)
    return [
        each
        for each in bridge.overview.homes()
        if each.alive and each.home != mine and shard in each.shards
    ]
