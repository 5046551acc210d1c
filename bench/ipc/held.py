"""What the two ends of a channel hold: descriptors and resident memory."""

from typing import NamedTuple, Self

import psutil

from bench.ipc.contract import Channel


class Held(NamedTuple):
    """Descriptors, and resident bytes."""

    client_descriptors: int
    server_descriptors: int
    client_memory: int  # of this whole process
    server_memory: int

    @classmethod
    def of(cls, channel: Channel) -> Self:
        """Look at both ends; where no server stays, at the largest there has been."""
        client = psutil.Process()
        return cls(
            client.num_fds(), channel.descriptors(), client.memory_info().rss, channel.memory()
        )

    def growth(self, before: "Held") -> tuple[int, int]:
        """Return how many descriptors and bytes both ends together hold more than before."""
        now, then = tuple(self), tuple(before)
        return sum(now[:2]) - sum(then[:2]), sum(now[2:]) - sum(then[2:])
