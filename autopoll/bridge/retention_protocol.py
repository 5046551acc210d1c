"""What every engine of the bridge does to forget what is old, and to give back the room of it.

What somebody still waits for is never removed, however old it is: a question without its answer, a
dead letter that nobody has dismissed, a message that its recipient has not read, and a question
that may still be repeated under its key.

An answer to an independent question is fetched by the number of that question, and never marked as
read; it goes with its question.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from autopoll.home.retention_settings import RetentionSection


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """From which age on something may go, in ms since it was settled or written; None for never.

    `foreign` is what other programs wrote and autopoll had no part in: messages that were read, and
    lines of the audit log.
    """

    answered: int | None = None
    canaries: int | None = None
    audit: int | None = None
    foreign: int | None = None


class PrunedRows(msgspec.Struct, kw_only=True):
    """How much was removed, or would be; `text_bytes` are those of questions and messages."""

    questions: int = 0  # each with its answer
    canaries: int = 0
    foreign_messages: int = 0
    audit_lines: int = 0
    keys: int = 0
    text_bytes: int = 0

    def add(self, other: "PrunedRows") -> None:
        """Add what another step has removed."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def rows(self) -> int:
        """How many things were removed."""
        counted = (self.questions, self.canaries, self.foreign_messages)
        return sum(counted) + self.audit_lines + self.keys


class SweepPlace(NamedTuple):
    """How far a sweep has come: in which part of it, and behind which number."""

    part: int = 0
    after: int = 0


class SweepStep(NamedTuple):
    """What a step has removed, and where the next one begins; None at the end of the sweep."""

    removed: PrunedRows
    next: SweepPlace | None


class RetentionStore(Protocol):
    """Forgetting, step by step, so that nobody has to wait for it."""

    def sweep(
        self, ages: Ages, place: SweepPlace, most: int, *, dry_run: bool = False
    ) -> SweepStep:
        """Look at some rows from a place on, and remove at most so many of what is old.

        Whoever is killed in the middle, or sweeps beside another, has removed each thing whole or
        not at all. On a server one sweeps at a time; a step that meets another removes nothing.
        The commit is not synced to disk.
        """

    def remove(self, message_ids: Sequence[int]) -> int:
        """Remove questions that are settled, of whatever age, with all that belongs to them.

        Returns how many. For questions that their asker alone knows of, and has the answers to.
        """

    def free_bytes(self) -> int:
        """Return how much of the store's file holds nothing; 0 where a server sees to that."""

    def used_bytes(self) -> int:
        """Return how much of it holds something; 0 on a server."""

    def rewrite(self) -> None:
        """Write the file again without what holds nothing; all writers wait meanwhile.

        Takes as much free disk as there is to be kept, twice. Raises BridgeFull and BridgeBusy with
        the file as it was.
        """


def ages_of(kept: RetentionSection) -> Ages:
    """Return what the settings say of the store."""
    return Ages(
        answered=kept.answered.limit_ms,
        canaries=kept.canaries.limit_ms,
        audit=kept.audit.limit_ms,
        foreign=kept.foreign.limit_ms,
    )
