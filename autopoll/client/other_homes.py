"""What other homes on the same bridge do, so that a change of one home concerns itself alone."""

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import AnsweringHome
from autopoll.errors import BridgeBusy, BridgeUnavailable
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.home.identity import known_identity


def other_homes(home: Home, bridge: Bridge) -> list[AnsweringHome]:
    """Return the homes beside this one that share the bridge, those too that are away."""
    mine = known_identity(home)
    return [each for each in bridge.overview.homes() if each.home != mine]


def others_serving(home: Home, bridge: Bridge, shard: str) -> list[AnsweringHome]:
    """Return the homes beside this one that answer for a shard.

    Those too that are away, for a week: what waits for them is answered when they are back.
    """
    return [each for each in other_homes(home, bridge) if shard in each.shards]


def is_answered_elsewhere(home: Home, config: Config, bridge: Bridge, shard: str | None) -> bool:
    """Return whether a home beside this one is known to be alive and to answer for a shard.

    While the bridge cannot be reached nothing is known of it.
    """
    if shard is None or not config.bridge.url.is_server:
        return False
    try:
        return any(each.alive for each in others_serving(home, bridge, shard))
    except (BridgeUnavailable, BridgeBusy):
        return False
