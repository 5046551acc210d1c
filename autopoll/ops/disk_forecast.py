"""When the disks of a home will be full, if they fill as they did in the last week."""

from collections.abc import Sequence

import msgspec

from autopoll.home import disk_samples
from autopoll.home.byte_size import in_words
from autopoll.home.config import Config
from autopoll.home.home import Home

LEAST_MS = 3_600_000  # that samples must span before anything is said
_LOOK_BACK_MS = 7 * 86_400_000
_DAY_MS = 86_400_000
_FAR_DAYS = 3650  # beyond which no date is worth a word


class DiskForecast(msgspec.Struct, frozen=True, kw_only=True):
    """One folder that the home writes into; bytes, and bytes a day.

    `fills_by` is None while it is not known, which takes an hour; negative where room is gained.
    `full_in_days` is None then, and where the disk does not fill up at this rate. `bridge` counts
    the files of the bridge; None for other folders, and where it is on a server.
    """

    folder: str
    free: int
    fills_by: int | None = None
    full_in_days: float | None = None
    bridge: int | None = None
    bridge_grows_by: int | None = None
    seen_days: float = 0.0  # that the samples span

    @property
    def words(self) -> str:
        """It in a sentence, for people."""
        begin = f"{in_words(self.free)} free at {self.folder}"
        if self.fills_by is None:
            return f"{begin}; how fast it fills is known an hour after the first start"
        if self.full_in_days is None:
            return f"{begin}, and it does not fill up"
        days = f"{self.full_in_days:,.0f} days" if self.full_in_days >= 2 else "less than two days"
        return f"{begin}, {in_words(self.fills_by)} less a day: full in {days}"


def disk_forecast(home: Home, config: Config) -> list[DiskForecast]:
    """Return a forecast for each folder that the home writes into; raises OSError.

    From the samples that the poller takes once an hour, and how it is now.
    """
    now = disk_samples.take(home, config)
    recent = [
        each for each in disk_samples.read(home) if now.at - _LOOK_BACK_MS <= each.at < now.at
    ]
    series = [*recent, now]
    file = config.bridge.url.file(home.root)
    return [
        _forecast(folder, series, with_bridge=file is not None and str(file.parent) == folder)
        for folder in now.free
    ]


def _forecast(
    folder: str, series: Sequence[disk_samples.DiskSample], *, with_bridge: bool
) -> DiskForecast:
    now = series[-1]
    free = [(each.at, each.free[folder]) for each in series if folder in each.free]
    bridge = [(each.at, each.bridge) for each in series if each.bridge is not None]
    gained = _a_day(free)
    grows = _a_day(bridge) if with_bridge else None
    left_days = now.free[folder] / -gained if gained is not None and gained < 0 else None
    return DiskForecast(
        folder=folder,
        free=now.free[folder],
        fills_by=None if gained is None else round(-gained),
        full_in_days=left_days if left_days is not None and left_days < _FAR_DAYS else None,
        bridge=now.bridge if with_bridge else None,
        bridge_grows_by=None if grows is None else round(grows),
        seen_days=round((free[-1][0] - free[0][0]) / _DAY_MS, 2),
    )


def _a_day(points: Sequence[tuple[int, int]]) -> float | None:
    """Return by how much it rises a day, on the line that fits best; None for too short a time."""
    if not points or points[-1][0] - points[0][0] < LEAST_MS:
        return None
    middle = sum(at for at, _ in points) / len(points)
    level = sum(value for _, value in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    rise: float = sum((at - middle) * (value - level) for at, value in points) / spread
    return rise * _DAY_MS
