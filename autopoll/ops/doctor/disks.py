"""The disks that a home writes to: room, inodes, and when they will be full."""

import os
from collections.abc import Iterator

from autopoll.home import disk_space
from autopoll.home.disk_samples import written_folders
from autopoll.ops.disk_forecast import disk_forecast
from autopoll.ops.doctor.findings import DoctorFinding, degraded, failed, good
from autopoll.ops.doctor.subject import Subject

_FEW_INODES = 1000
_SOON_DAYS = 14.0


def look(subject: Subject) -> Iterator[DoctorFinding]:
    """Look at each folder that is written to."""
    home = subject.home
    folders = [home.var]
    if subject.config:
        folders = [*written_folders(home, subject.config), home.log]
    for folder in dict.fromkeys(folder for folder in folders if folder.is_dir()):
        facts = os.statvfs(folder)
        if short := disk_space.shortage(folder):
            yield failed("disk", short, "Make room: autopoll prune, or remove other files there.")
        elif facts.f_files and facts.f_favail < _FEW_INODES:
            what = f"{facts.f_favail} inodes left at {folder}, fewer than {_FEW_INODES}"
            yield degraded("disk", what, "Remove files there; df -i shows the file systems.")
        else:
            yield good("disk", disk_space.free(folder))
    for each in disk_forecast(home, subject.config) if subject.config else []:
        if each.full_in_days is not None and each.full_in_days < _SOON_DAYS:
            mend = "Make room, or keep less: [retention] in autopoll.toml"
            yield degraded("forecast", each.words, mend)
