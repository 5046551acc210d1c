"""Which settings a process runs with, as a short text in its heartbeat.

A process notes it when it has read the settings. Compared with what they are now, it shows exactly
which processes a change concerns, also after one of them was restarted meanwhile and has the new
settings already.
"""

import hashlib
from typing import Any

import msgspec

from autopoll.home.bridge_url import BridgeUrl
from autopoll.home.config import Config, ShardSection

# What a worker never looks at: these are for the poller, the watchdog, and the number of programs.
ELSEWHERE = frozenset(
    {
        "instances", "request_timeout", "progress_timeout", "max_memory",
        "daily_tokens", "daily_cost",
    }
)  # fmt: skip


def of_worker(config: Config, shard: str) -> str:
    """Return the fingerprint of all that an instance of the shard takes from the settings."""
    section = config.shards[shard]
    own = {name: getattr(section, name) for name in _fields() if name not in ELSEWHERE}
    return _hash([own, config.delivery.drain_timeout])


def of_poller(config: Config) -> str:
    """Return the fingerprint of all settings, for the poller may look at each."""
    return _hash(config)


def of_gateway(config: Config) -> str:
    """Return the fingerprint of what a gateway looks at: of the shards, which there are."""
    shards = {name: [each.backend, each.instances] for name, each in config.shards.items()}
    return _hash([config.gateway, config.bridge, config.access, config.delivery, shards])


def of_ground(config: Config) -> str:
    """Return the fingerprint of the settings that a poller reopens its bridge for."""
    delivery = config.delivery
    return _hash([config.bridge, config.access, delivery.max_attempts, delivery.max_message])


def _fields() -> list[str]:
    return [field.name for field in msgspec.structs.fields(ShardSection)]


def _hash(value: Any) -> str:
    text = msgspec.json.encode(value, enc_hook=_plain, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Return a duration or a size as the number that it is, and a url as its text."""
    if isinstance(value, BridgeUrl):
        return value.full
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    raise NotImplementedError(type(value))  # as msgspec wants it of a type that no hook knows
