"""How the service behaves towards one question, read from its text and the mood that is set.

before the headers  hang; delay=MS; slow (300 ms, also as the first word of a question); reset
in their place      429, 429=SECONDS (retry-after), reset-in=SECONDS (the vendor's own header),
                    refused (429, also as a first word), 307 (to /elsewhere), 400, 401, 402, 403,
                    404, 413, 500, 502, 503, 529, credit (nothing left to spend), toolong (context
                    too long), html
after a first piece stall, drop, cut (ends early, as if all was well), error, error=KIND, garbage,
                    endless
all along           pause=MS (between events), thinking, ping=N (keep-alives at first), quiet (no
                    usage is told), nodone
first of all        tool=NAME with {"…": …} behind it in braces: uses that tool before it answers
at its end          refusal, empty, filter, max (cut at max_tokens)
"""

import re
from typing import NamedTuple

_MOOD = re.compile(r"!([a-z0-9-]+)(?:=([\w.-]+))?")
_FIRST = re.compile(r"^(slow|refused)\b", re.M)
STATUSES = frozenset(["400", "401", "402", "403", "404", "413", "429", "500", "502", "503", "529"])


class Moods(NamedTuple):
    """Moods with their values; one without a value has an empty one."""

    values: dict[str, str]

    @classmethod
    def of(cls, question: str, mood: str) -> "Moods":
        found = dict(_MOOD.findall(question[:4000]))
        found.update(dict.fromkeys(_FIRST.findall(question[:4000]), ""))
        found.update(_MOOD.findall(" ".join(f"!{word}" for word in mood.split())))
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def number(self, name: str, default: float = 0) -> float:
        return float(self.values.get(name) or default) if name in self.values else default

    @property
    def status(self) -> int | None:
        """The status to refuse with, if any."""
        for name in self.values:
            if name in STATUSES:
                return int(name)
        if "refused" in self.values or "reset-in" in self.values:
            return 429
        return 400 if {"credit", "toolong"} & self.values.keys() else None
