"""Where measurements keep their files: on a disk, for as long as they take."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autopoll.cli.interrupt import undisturbed

_ON_DISK = Path("/var/tmp")  # /tmp is memory on many machines, where a commit is free

log = logging.getLogger(__name__)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder on the disk of TMPDIR, else of /var/tmp, and remove it at the end.

    Whatever tempfile makes meanwhile, homes too, lies in there and so on the same disk.
    """
    chosen = "TMPDIR" in os.environ or not os.access(_ON_DISK, os.W_OK | os.X_OK)
    before = tempfile.tempdir
    made = tempfile.mkdtemp(prefix="autopoll-bench-", dir=None if chosen else _ON_DISK)
    folder = Path(made).resolve()
    try:
        tempfile.tempdir = str(folder)
        yield folder
    finally:
        tempfile.tempdir = before
        # A second Ctrl-C must not leave half of it.
        with undisturbed():
            try:
                shutil.rmtree(folder)
            except OSError as error:  # which is no reason to lose what was measured
                log.warning("%s could not be removed: %s", folder, error)
