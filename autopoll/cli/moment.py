"""A moment on the command line: how long ago it was, or when."""

from datetime import UTC, datetime
from typing import Any

import click


class MomentType(click.ParamType):  # type: ignore[type-arg]
    """A moment in the past, such as 2h, 30m, 2026-03-01 or 2026-03-01T10:00:00Z; UTC by itself."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC."""
        from datetime import timedelta

        from autopoll.clock import Duration, utc_now
        from autopoll.errors import UsageError

        text = str(value).strip()
        try:
            return utc_now() - timedelta(seconds=Duration.parse(text))
        except UsageError:
            pass
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no time. Write how long ago, as in 2h, or when, as in "
                "2026-03-01T10:00:00Z.",
                param,
                ctx,
            )


def naive_utc(moment: datetime | None) -> str | None:
    """Return a moment as the tables of the bridge hold it."""
    return (
        None if moment is None else moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    )
