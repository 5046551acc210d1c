"""The paused shards as the poller keeps them: those of a refusing service, of a budget, or by hand.

A shard whose pause is over is on trial: it is given one question at a time, until one is answered.
"""

import logging
import os
from collections.abc import Callable, Iterable

import msgspec

from autopoll.home import files
from autopoll.home.home import Home
from autopoll.process import manual_pause, shard_pause
from autopoll.process.shard_pause import Pause
from autopoll.request import Failure

log = logging.getLogger(__name__)


class Pauses:
    """The pauses by shard, each with its file; a shard that was removed has none."""

    def __init__(self, home: Home, shards: Iterable[str]) -> None:
        """Start with what an earlier poller left."""
        self._home = home
        self._pauses: dict[str, Pause] = {}
        self._written: set[str] = set()  # those that have a file
        self._by_hand: set[str] = set()
        self.update(shards)

    def update(self, shards: Iterable[str]) -> None:
        """Forget shards that were removed, and read what is kept of those that are new."""
        self._shards = set(shards)
        for shard in self._pauses.keys() - self._shards:
            del self._pauses[shard]
            self._written.discard(shard)
        for shard in self._shards - self._pauses.keys():
            if found := shard_pause.read_file(self._home.pauses / shard):
                self._pauses[shard] = found
                self._written.add(shard)
        self.look_by_hand()

    def look_by_hand(self) -> None:
        """See which shards are paused by hand now; to be called once a second, and at the bell."""
        try:
            names = os.listdir(self._home.manual_pauses)  # noqa: PTH208 - names are wanted
        except OSError:
            names = []
        paused = {
            name for name in self._shards.intersection(names) if manual_pause.read(self._home, name)
        }
        for shard in paused ^ self._by_hand:
            log.info("shard %s is %s by hand", shard, "paused" if shard in paused else "resumed")
        self._by_hand = paused

    def check(self) -> list[str]:
        """Begin a trial where somebody removed the file, and return those shards.

        To be called once a second.
        """
        ended = [each for each in self._written if not (self._home.pauses / each).exists()]
        for shard in ended:
            self._written.remove(shard)
            self._pauses[shard] = msgspec.structs.replace(self._pauses[shard], until=0)
        return ended

    def limit(self, room: dict[str, int], is_answering: Callable[[str], bool]) -> None:
        """Lower, in place, how many questions each shard may be given now."""
        for shard, found in self._pauses.items():
            closed = found.left_s or is_answering(shard)
            room[shard] = 0 if closed else min(room[shard], 1)
        for shard in self._by_hand:
            room[shard] = 0

    def refused(self, shard: str, failure: Failure) -> None:
        """Pause the shard; what was in flight when its pause began changes nothing."""
        if self._may_pause(shard):
            before = self._pauses.get(shard)
            self._write(shard, shard_pause.begin(self._home, f"shard {shard}", failure, before))

    def overspent(self, shard: str, text: str, until: int) -> None:
        """Pause the shard for its budget, unless it is paused anyway."""
        if self._may_pause(shard):
            process, before = f"shard {shard}", self._pauses.get(shard)
            began = shard_pause.begin_until(self._home, process, "budget", text, until, before)
            self._write(shard, began)

    def is_overspent(self, shard: str) -> bool:
        """Tell whether the shard is paused for its budget, or was until just now."""
        found = self._pauses.get(shard)
        return found is not None and found.cause == "budget"

    def answered(self, shard: str) -> None:
        """End the trial of a shard, if it is on one."""
        found = self._pauses.get(shard)
        if found and not found.left_s:
            self.end(shard)

    def end(self, shard: str) -> None:
        """End the pause of a shard that is paused or on trial."""
        ended = self._pauses.pop(shard)
        self._written.discard(shard)
        shard_pause.remove(self._home, shard)
        log.info("shard %s works again", shard)
        shard_pause.end(self._home, ended)

    def _may_pause(self, shard: str) -> bool:
        """Tell whether the shard is one of ours and not paused; replies may outlast their shard."""
        before = self._pauses.get(shard)
        return shard in self._shards and not (before and before.left_s)

    def _write(self, shard: str, began: Pause) -> None:
        self._pauses[shard] = began
        try:
            files.put(self._home.pauses / shard, msgspec.json.encode(began))
            self._written.add(shard)
        except OSError as error:
            log.warning("the pause of shard %s ends with this process: %s", shard, error)
