"""Becoming the answerer of a bridge, as a poller does."""

from typing import Any

from autopoll.bridge.protocols import Bridge
from autopoll.bridge.records import Answerer

LEASE = 60_000
HOME = "0" * 32


def answerer(owner: str = "me", **given: Any) -> Answerer:
    """Return an owner of a home that nothing is said of."""
    facts = {"home": HOME, "host": "here", "folder": "/home", "version": "1", "shards": ["main"]}
    return Answerer(owner=owner, **{**facts, **given})


def take_over(bridge: Bridge, owner: str = "me", **given: Any) -> int:
    """Become the answerer; return how many questions were freed."""
    return bridge.deliveries.take_over(answerer(owner, **given), LEASE)
