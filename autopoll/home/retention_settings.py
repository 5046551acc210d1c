"""How long what is over is kept."""

from typing import Any

import msgspec

from autopoll.clock import Duration
from autopoll.errors import UsageError

FOREVER = "forever"


class KeptFor(Duration):
    """How long something is kept, in seconds: a duration, or `forever`."""

    @classmethod
    def parse(cls, value: Any) -> "KeptFor":
        """Read it; raise UsageError when it is neither."""
        if isinstance(value, str) and value.strip() == FOREVER:
            return cls("inf")
        try:
            return cls(Duration.parse(value))
        except UsageError as error:
            raise UsageError(error.what, "Write it as 12h or 90d, or as forever.") from None

    @property
    def limit_ms(self) -> int | None:
        """The same in whole milliseconds; None for ever."""
        return None if self == float("inf") else self.ms


class RetentionSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which age on answered questions, audit lines, incidents and logs are removed."""

    answered: KeptFor = KeptFor(90 * 86400)
    canaries: KeptFor = KeptFor(3600)
    audit: KeptFor = KeptFor(90 * 86400)
    incidents: KeptFor = KeptFor(90 * 86400)
    logs: KeptFor = KeptFor(30 * 86400)
    foreign: KeptFor = KeptFor("inf")
