"""Slots that leaked: questions that stay leased past their time while no worker has a request."""

import time

from autopoll.bridge.protocols import Bridge
from autopoll.client.other_homes import others_serving
from autopoll.clock import wall_ms
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.poller.attempt import CANCEL_GRACE_S
from autopoll.process.heartbeat import ProcessState, is_alive, read

IDLE_S = 2.0  # far longer than a question takes from its lease to the worker


def leaked_slots(home: Home, config: Config, bridge: Bridge) -> dict[str, str]:
    """Return shard -> what is wrong, where leases are past their time and all workers idle."""
    found = {}
    now = wall_ms()
    for waiting in bridge.overview.backlog() if bridge.overview.in_flight() else ():
        section = config.shards.get(waiting.shard)
        if waiting.state != "leased" or section is None:
            continue
        age = (now - waiting.oldest_at) / 1000
        workers = [name for name, shard in config.instances().items() if shard == waiting.shard]
        if (
            age > section.request_timeout + CANCEL_GRACE_S
            and all(_is_idle(home, each) for each in workers)
            # It may have been for longer in flight elsewhere.
            and not any(each.alive for each in others_serving(home, bridge, waiting.shard))
        ):
            found[waiting.shard] = (
                f"{waiting.count} in flight, the oldest for {age:.0f} s, while its workers are"
                f" idle; if it stays so: autopoll restart {workers[0]}"
            )
    return found


def _is_idle(home: Home, worker: str) -> bool:
    beat = read(home.beats / worker)
    if beat is None or beat.state is not ProcessState.IDLE or not is_alive(beat):
        return False
    return time.monotonic() - beat.progressed_at > IDLE_S
